"""Runs of Python's garbage collector."""

from __future__ import annotations

from msgspec import Struct


class GcPause(Struct, frozen=True, kw_only=True):
    """One run of Python's garbage collector on any thread."""

    start_ns: int
    duration_ns: int
    generation: int
    place: str | None = None  # "train.py:84", where the program asked for it; None: nobody did, or it is unknown
