"""Builds the compiled core (mfu_doctor/compiled.py); all else is in pyproject.toml.

Each module is optional: where it cannot be built, the installation says so and goes on, and Python does its work.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Extension, setup

# -ffp-contract=off: a product and a sum are rounded one after the other, as in Python, also where one instruction could do both.
FLAGS = [] if sys.platform == "win32" else ["-ffp-contract=off", "-g0"]


def core_module(source: Path) -> Extension:
    """A module of the compiled core."""
    module = Extension(
        ".".join(source.with_suffix("").parts), [source.as_posix()], extra_compile_args=FLAGS, optional=True
    )
    module.cython_c_in_temp = True  # .ci/run builds for several versions of Python at once
    return module


setup(ext_modules=[core_module(source) for source in sorted(Path("mfu_doctor").rglob("*_core.pyx"))])
