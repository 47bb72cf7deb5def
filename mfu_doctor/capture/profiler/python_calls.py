"""How many functions one step calls from Python: with source lines, the profiler records each of these calls.

What these functions return is looked at meanwhile (see `constant_results`).

A step that makes its data in Python calls millions of them, and each costs two kilobytes and fifteen microseconds when the window
is stopped and written (torch 2.13): a fifth of a second of Python took 47 s and 5.7 GB. They are counted in steps whose times are
not used, and only so far that the answer is known: a quarter of a microsecond for each.
"""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any, Protocol

from msgspec import Struct, field

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.dynamo import leave_alone
from mfu_doctor.capture.profiler.mode_isolation import without_user_modes

_CALLS, _OF_PYTHON = ("call", "c_call"), ("call", "return")
_NOT_COMPARED = "what functions return could not be compared"


class Watcher(Protocol):
    """Looks at the calls of a step.

    Attributes:
        kinds: of what is called, by the address of its code; 0: its calls need not be looked at.
        tired: whether it has looked at enough of this step.
    """

    kinds: dict[int, int]
    tired: bool

    def begins(self) -> None:
        """A step begins."""

    def look(self, frame: FrameType, event: str, value: Any) -> None:
        """A function is called, or returns."""

    def ended(self, *, whole: bool) -> None:
        """It has ended; `whole`: all of its calls were seen."""


class PythonCalls(Struct, eq=False):
    """Counts the calls of one thread in one step.

    Attributes:
        most: calls after which it does not matter how many follow.
        results: looks at the calls and at what they return.
        notes: where to say that it failed to.
        counted: most calls of a step that was counted to its end, at most one more than `most`; None: there was none.
    """

    most: int
    results: Watcher | None = None
    notes: Notes = field(default_factory=Notes)
    counted: int | None = None
    _seen: int = 0
    _thread: int | None = None  # that is counted now

    @property
    def counting(self) -> bool:
        """Whether a step is counted now."""
        return self._thread is not None

    def start(self) -> None:
        """A step begins; nothing is counted where the program has a profile function of its own."""
        self._seen = 0
        if sys.getprofile() is None and threading.getprofile() is None:
            leave_alone(PythonCalls._count, inside=True)
            if self.results is not None:
                self.notes.guarded(_NOT_COMPARED, self.results.begins)
            self._thread = threading.get_ident()
            sys.setprofile(self._count)

    def stop(self) -> None:
        """It has ended, or is given up; does nothing where none is counted."""
        if self._thread == threading.get_ident() and (self._seen > self.most or sys.getprofile() == self._count):
            if self._seen <= self.most:
                sys.setprofile(None)
            self.counted = max(self.counted or 0, self._seen)
            if self.results is not None:
                self.results.ended(whole=self._seen <= self.most)
        self._thread = None

    def _count(self, frame: FrameType, event: str, value: Any) -> None:
        if event in _CALLS:
            self._seen += 1
            if self._seen > self.most or self._thread is None:
                sys.setprofile(None)
                return
        if self.results is None or self.results.tired or event not in _OF_PYTHON:
            return
        if self.results.kinds.get(id(frame.f_code)) != 0:
            with without_user_modes():
                self.notes.guarded(_NOT_COMPARED, self.results.look, frame, event, value)
