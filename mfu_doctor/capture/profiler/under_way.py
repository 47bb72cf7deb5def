"""Whether a recording is under way in this process, also between its windows: no other profiler of ours starts then."""

from __future__ import annotations

import os

recordings: dict[object, int] = {}
"""Those under way, with the process that began each: a forked child has those of its parent."""


def begins(recording: object) -> None:
    """It is under way until it ends."""
    recordings[recording] = os.getpid()


def ends(recording: object) -> None:
    """It is over; safe to call twice."""
    recordings.pop(recording, None)


def recording_here() -> bool:
    """Whether there is one: those of a parent process are not ours."""
    return bool(recordings) and any(pid == os.getpid() for pid in recordings.values())
