"""Where the user wrote `profile()`."""

from __future__ import annotations

import sys

from mfu_doctor.capture.destination import working_directory
from mfu_doctor.capture.loop.stack_sampler import own_directory, shown_path


def caller() -> str:
    """File and line of the nearest frame outside this package."""
    frame, own = sys._getframe(1), own_directory()  # noqa: SLF001 - the documented way
    while frame.f_back is not None and frame.f_code.co_filename.startswith(own):
        frame = frame.f_back
    return f"{shown_path(frame.f_code.co_filename, working_directory())}:{frame.f_lineno}"
