"""The Recorder that `profile()` returns: one line around a training loop.

It watches the loop, and the phase runner runs the schedule. When the schedule or the `with` block ends, the file is
written. Until the block ends, only step times are taken. Then all hooks are removed and the report is made. Every call from the
user's code goes through the capture boundary, so that a failure of ours becomes a note in the report.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from mfu_doctor.capture import destination
from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.capture import Capture
from mfu_doctor.capture.export.at_hand import at_hand
from mfu_doctor.capture.export.output import Output
from mfu_doctor.capture.facts.settings import place_in_job
from mfu_doctor.capture.loop.edges import Source
from mfu_doctor.capture.seen import Request
from mfu_doctor.session.batches import Batches
from mfu_doctor.session.decorated import in_block
from mfu_doctor.session.early import EarlyReport
from mfu_doctor.session.ending import report_of, told, trains_on
from mfu_doctor.session.floor import leave_the_floor, take_the_floor
from mfu_doctor.session.live import Live
from mfu_doctor.session.shown import display, in_notebook, write

if TYPE_CHECKING:
    from mfu_doctor.api.report import Report

T = TypeVar("T")
P = ParamSpec("P")

_NOTHING_SEEN = "nothing to report: no optimizer step, backward pass, DataLoader batch or operator of PyTorch was seen"
_FAILED = "the recording could not begin"


class Recorder:
    """What `profile()` returns.

    Args:
        request: what to record and where to write it.
        print_report: whether rank 0 prints the report to stderr at the end.
        enabled: if False, no method does anything.
        yields: whether a `profile()` inside the block replaces this one (then this one is that of `mfu-doctor run`).

    Attributes:
        live: prints a line every so many steps; None: nothing does.
    """

    def __init__(self, request: Request, *, print_report: bool, enabled: bool, yields: bool) -> None:
        self.site = request.site
        self.yields = yields
        self._request, self._enabled = request, enabled
        self._capture: Capture | None = None  # of the block that was entered last
        self._places = list(sys.path)  # not all that the end needs is imported yet, and the script may change it
        self._output = Output(self._places)
        self._said = Notes()  # of the recorder itself
        self._print = print_report
        self._early: EarlyReport | None = None
        self.live: Live | None = None
        self._report: Report | None = None
        self._asked_report = False
        self._pid = 0  # the process that entered the block
        self._again = 0  # how often it was entered once more while it was open
        self._left = False
        self._failure: type[BaseException] | None = None  # what ended the block
        self._failed = False
        self._folder = destination.working_directory()  # the script may change it

    @property
    def path(self) -> Path | None:
        """The trace file; None before it is written, or if it could not be written."""
        return self._output.path

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be recorded, and why."""
        return (*self._said.said, *(self._capture.notes.said if self._capture is not None else ()))

    @property
    def report(self) -> Report | None:
        """The report; None before the file is written, or if it could not be made (see `notes`)."""
        if not self._asked_report and self.path is not None and self._capture is not None:
            self._asked_report = True
            with at_hand(self._places):
                self._report = self._capture.notes.guarded(
                    "the report could not be made", report_of, self.path, self._folder
                )
        return self._report

    def step(self) -> None:
        """End the current training step. Call it once per optimizer step. It does nothing if recording is over or disabled."""
        capture = self._open_capture()
        if capture is not None:
            capture.stepped()

    def batches(self, iterable: Iterable[T]) -> Iterable[T]:
        """Mark an iterable that is not a DataLoader as data loading. Its length is kept.

        Args:
            iterable: yields the batches.
        """
        return Batches(iterable, self._open_capture) if self._enabled else iterable

    def start(self) -> Self:
        """Begin the block where a `with` statement has no place; `stop` ends it, or the exit of the program."""
        return self.__enter__()

    def stop(self) -> None:
        """End the block that `start` began. It does nothing if none is open."""
        self.__exit__(None, None, None)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Decorate a function that trains: each call of it is a block.

        Raises:
            DoctorError: a call would not train, or it is no function.
        """
        return in_block(self, function)

    def __enter__(self) -> Self:
        """Start recording. If another block of this process records already, this one does nothing, and says so once."""
        if not self._enabled:
            return self
        if self.is_open_here:
            self._again += 1
            self._tell(f"profile() at {self.site} was entered inside its own block: the outermost one is recorded")
            return self
        self._pid, self._left = os.getpid(), False
        other = take_the_floor(self)
        if other is None:
            self._record()
        else:
            self._capture, self._output, self._report, self._left = None, Output(self._places), None, True
            self._tell(f"another profile() is already active at {other.site}: the one at {self.site} records nothing")
        return self

    def _record(self) -> None:
        """Begin; the second block of one recorder is recorded like the first."""
        self._output = output = Output(self._places)
        self._asked_report, self._report, self._early = False, None, None
        self._said.said.clear()
        try:
            self._capture = self._said.guarded(_FAILED, Capture, self._request, self._written, output.keep)
            if self._capture is None:
                self._tell(self._said.said[0])
                self._leave()
                return
            self._early = self._announced(self._capture)
            atexit.register(self._at_exit)
            for other in list(_left_unread):
                other.read_before(self._request)
            self._capture.start()
        except BaseException:  # Ctrl-C: Python does not exit a block that was not entered
            self.give_way()
            self._leave()
            raise

    def _announced(self, capture: Capture) -> EarlyReport | None:
        """What says and prints while the block goes on; None if nothing is to be printed before its end."""
        if self._is_first and self.live is not None:
            self.live.begin(capture, self._say)
        if not self._speaks or in_notebook():
            return None
        return EarlyReport(capture, self._say, self._folder, self._places)

    def _written(self, capture: Capture) -> None:
        """The recording is over, or the block."""
        first = capture.facts is None
        self._output.write(capture)
        if not first or self.path is None or capture.watch.ended:
            return
        if self.live is not None and self._is_first:
            with at_hand(self._places):
                capture.notes.guarded("MFU could not be counted", self.live.recorded, self.path, self._folder)
        if self._early is not None:
            capture.notes.guarded("the report could not be begun", self._early.recorded, self.path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what was recorded and print the report. An exception of the block is raised unchanged."""
        if self._capture is None or not self.is_open_here:
            return
        if self._again:
            self._again -= 1
            return
        self._failure, self._failed = kind, _failed(error)
        if not (self.yields and trains_on(self._capture)):
            self._end(self._capture)

    def _end(self, capture: Capture) -> None:
        self._asked_report, self._report = False, None  # one of the recording alone does not know the rest of the run
        try:
            capture.stop(failed=self._failed)
        except BaseException:  # Ctrl-C while the trace is written
            capture.notes.guarded("the hooks could not be removed", capture.close)
            raise
        finally:
            self._leave()
            _left_unread.add(self)
        if self._speaks and not capture.abandoned:
            with at_hand(self._places):
                capture.notes.guarded("the report could not be shown", self._show, capture)

    def _leave(self) -> None:
        self._left = True
        if self.live is not None:
            self._said.guarded("the lines could not be ended", self.live.end)
        atexit.unregister(self._at_exit)
        leave_the_floor(self)

    def _at_exit(self) -> None:
        """The interpreter exits inside the block (an unfinished generator, training in other threads): report what was seen."""
        if self._capture is not None and self.is_open_here and self._capture.signs.thread.at_home:
            self._end(self._capture)
        self._left = True  # during shutdown half of Python is gone, so a later exit of the block must do nothing

    @property
    def is_open_here(self) -> bool:
        """Whether the block of this recorder is active in this process: in a forked child it belongs to the parent."""
        return not self._left and self._pid == os.getpid()

    def give_way(self) -> bool:
        """Another block takes over: stop recording and write no file, if the thread that trains lets go of it."""
        capture = self._capture
        if capture is None:
            return True
        gone = capture.notes.guarded("the outer recorder could not be stopped", capture.abandon)
        if gone:
            self._output.forget()
            if self._early is not None:
                self._early.stop()
        return bool(gone)

    def read_before(self, request: Request) -> None:
        """Another block may write over the file of this one: make its report while the file is there."""
        if request.destination == self._request.destination:
            _left_unread.discard(self)
            _ = self.report

    def _open_capture(self) -> Capture | None:
        return self._capture if self.is_open_here else None

    @property
    def _speaks(self) -> bool:
        return self._print and self._is_first

    @property
    def _is_first(self) -> bool:
        place = self._said.guarded("the rank is not known", place_in_job)
        return place is None or not place.rank

    def _tell(self, sentence: str) -> None:
        """Note it, and print it once: a loop may come here in every round."""
        self._said.say(sentence)
        if self._speaks and sentence not in _told:
            _told.add(sentence)
            self._say(f"mfu-doctor: {sentence}")

    def _say(self, text: str) -> None:
        self._said.guarded("standard error could not be written", write, text)

    def _show(self, capture: Capture) -> None:
        """The report, else why there is none; nothing beside the traceback of a program that failed before it trained."""
        early = self._early
        more = early.told_more if early is not None and early.finish() else None
        if more is not None:
            text = more
        elif (report := self.report) is not None:
            if in_notebook():
                display(report)
                return
            text = told(report, self.path, self._folder)
        elif self._failure is not None and self._failure is not SystemExit:
            return
        elif capture.detector.source is Source.BLOCK:
            text = f"mfu-doctor: {capture.samplers.children.who_trains() or _NOTHING_SEEN}"
        else:
            text = "\n".join(f"mfu-doctor: {note}" for note in self.notes)
        if text:
            write(text)


_left_unread: weakref.WeakSet[Recorder] = weakref.WeakSet()  # recorders whose block is over
_told: set[str] = set()


def _failed(error: BaseException | None) -> bool:
    """Whether the block ended by an error, or by an exit that tells of one."""
    return error is not None and not (isinstance(error, SystemExit) and error.code in (None, 0))
