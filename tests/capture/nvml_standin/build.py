"""Builds the stand-in for the driver's library with the system's compiler."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPILER = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
NEWEST = 580

needs_compiler = [
    pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine"),
    pytest.mark.skipif(sys.platform != "linux", reason="libnvidia-ml.so.1 is the library's name on Linux"),
]


def build(folder: Path, driver: int = NEWEST) -> Path:
    """The folder, with a library of this driver's version in it, for LD_LIBRARY_PATH."""
    flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-DDRIVER={driver}"]
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([str(COMPILER), *flags, "-o", str(target), str(HERE / "standin.c")], check=True)
    return folder
