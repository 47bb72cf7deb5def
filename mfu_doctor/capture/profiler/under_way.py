"""Whether a recording is under way in this process, also between its windows: no other profiler of ours starts then."""

from __future__ import annotations

import os

_recordings: dict[object, int] = {}  # with the process that began each


def begins(recording: object) -> None:
    """It is under way until it ends."""
    _recordings[recording] = os.getpid()


def ends(recording: object) -> None:
    """It is over; safe to call twice."""
    _recordings.pop(recording, None)


def recording_here() -> bool:
    """Whether there is one: those of a parent process are not ours."""
    return bool(_recordings) and any(pid == os.getpid() for pid in _recordings.values())
