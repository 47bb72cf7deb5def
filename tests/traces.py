"""Where the real traces are, and how a test says that it needs one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TRACES = Path(os.environ.get("MFU_DOCTOR_TRACES", ROOT.parent / "shared" / "traces"))


def real_trace(name: str) -> Path:
    """Path of a real trace; skips the test where the folder of real traces is absent."""
    path = TRACES / name
    if not path.exists():
        pytest.skip(f"real trace {name} is not here (set MFU_DOCTOR_TRACES)")
    return path
