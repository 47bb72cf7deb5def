"""Where the real traces are, and how a test says that it needs one."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.reading import read_trace

ROOT = Path(__file__).resolve().parent.parent
SUFFIX = ".pt.trace.json.gz"
TRACES = Path(os.environ.get("MFU_DOCTOR_TRACES", ROOT.parent / "shared" / "traces"))


def real_trace(name: str) -> Path:
    """Path of a real trace; skips the test where the folder of real traces is absent."""
    path = TRACES / name
    if not path.exists():
        pytest.skip(f"real trace {name} is not here (set MFU_DOCTOR_TRACES)")
    return path


@cache
def real_run(name: str) -> Run:
    """A real trace, read and analysed once in a process: none of its tests can change it."""
    return Run(read_trace(real_trace(name + SUFFIX)))
