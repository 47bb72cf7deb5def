"""`profile()` and its Recorder: the one line around a training loop.

The Recorder listens to the loop, lets the phase runner run the schedule, and when that is over (or the block ends first) has
the file written and takes every hook off; at the end of the block it makes the report. Every entry from the user's code goes
through the capture boundary, so a failure of ours becomes a note in the report.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from mfu_doctor.capture import destination
from mfu_doctor.capture.capture import Capture, Request
from mfu_doctor.capture.facts.settings import place_in_job
from mfu_doctor.capture.loop.stack_sampler import own_directory, shown_path
from mfu_doctor.errors import DoctorError
from mfu_doctor.facts import GivenNumbers, Schedule
from mfu_doctor.session.batches import Batches

if TYPE_CHECKING:
    from mfu_doctor.api.report import Report

T = TypeVar("T")

DEFAULT = Schedule(skip=5, timed=5, warmup=3, active=5)
"""Steps to settle, to time, to attach the profiler, to record: enough for a median, few enough to stay out of the way."""


def profile(
    path: str | os.PathLike[str] = destination.DEFAULT,
    *,
    skip: int = DEFAULT.skip,
    timed: int = DEFAULT.timed,
    warmup: int = DEFAULT.warmup,
    active: int = DEFAULT.active,
    model_flops: float | None = None,
    peak_flops: float | None = None,
    print_report: bool = True,
    enabled: bool = True,
    nvml: Any = None,
    site: str | None = None,
) -> Recorder:
    """Record the training steps inside a `with` block and report why they do not use the hardware fully.

    Steps are found from optimizer steps, else from a DataLoader's fetches; `Recorder.step()` overrides. Steps go through
    the phases below, then everything is taken off and the loop runs untouched. A block with fewer steps gets shorter phases.
    The training itself is never changed: no setting, seed, synchronisation or exception of its own.

    Args:
        path: trace file to write; a directory gets a name in TensorBoard's layout; with several ranks, one directory.
        skip: steps that let the loop settle.
        timed: steps timed without any profiler: these give the step time and MFU.
        warmup: steps with the profiler attached and not recording.
        active: steps recorded for time; one more is recorded with shapes and source lines.
        model_flops: FLOP per step and process, if you know better than the count.
        peak_flops: dense peak of one device in FLOP/s, if the table does not know it.
        print_report: whether rank 0 writes the report to stderr when the block ends.
        enabled: False gives a recorder with the same methods that does nothing.
        nvml: module to use instead of pynvml.
        site: where the block is, as "file:line"; None: the caller.

    Returns:
        A context manager; inside the block it is also what `as` names.

    Raises:
        DoctorError: a number is negative or zero where it must not be.
    """
    counts = {"skip": skip, "timed": timed, "warmup": warmup, "active": active}
    for name, count in counts.items():
        least = 1 if name == "active" else 0
        if count < least:
            raise DoctorError(f"profile({name}={count}) makes no sense", f"give {least} or more steps")
    for name, number in (("model_flops", model_flops), ("peak_flops", peak_flops)):
        if number is not None and not number > 0:
            raise DoctorError(f"profile({name}={number}) makes no sense", "give a positive number, or leave it out")
    request = Request(
        asked=Schedule(**counts),
        destination=destination.Destination.of(path),
        site=site or _caller(),
        given=GivenNumbers(model_flops=model_flops, peak_flops=peak_flops),
        nvml=nvml,
    )
    return Recorder(request, print_report=print_report, enabled=enabled, yields=site is not None)


class Recorder:
    """What `profile()` returns.

    Args:
        request: what to record and where to write it.
        print_report: whether rank 0 writes the report to stderr at the end.
        enabled: False makes every method do nothing.
        yields: whether a `profile()` inside the block takes over (the block is `mfu-doctor run`, not the user's own).

    Attributes:
        path: the trace file, once it is written; None before, or if it could not be written.
    """

    def __init__(self, request: Request, *, print_report: bool, enabled: bool, yields: bool) -> None:
        self.path: Path | None = None
        self.site = request.site
        self.yields = yields
        self._capture = Capture(request, self._write) if enabled else None
        self._print = print_report
        self._report: Report | None = None
        self._asked_report = False
        self._pid = 0  # the process that entered the block
        self._left = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be captured, and why."""
        return tuple(self._capture.notes.said) if self._capture is not None else ()

    @property
    def report(self) -> Report | None:
        """The report; None before the file is written, or when it could not be made (see `notes`)."""
        if not self._asked_report and self.path is not None and self._capture is not None:
            self._asked_report = True
            self._report = self._capture.notes.guarded("the report could not be made", _diagnose, self.path)
        return self._report

    def step(self) -> None:
        """End the current training step; once per optimizer step. Does nothing when recording is over or disabled."""
        if self._capture is not None and self._mine:
            self._capture.stepped()

    def batches(self, iterable: Iterable[T]) -> Iterable[T]:
        """Mark the fetches of an iterable that is not a DataLoader as data loading; keeps its length.

        Args:
            iterable: anything that yields batches.
        """
        return iterable if self._capture is None else Batches(iterable, self._capture)

    def __enter__(self) -> Self:
        """Begin to record.

        Raises:
            DoctorError: another block of ours is open in this process.
        """
        if self._capture is None:
            return self
        _take_the_floor(self)
        self._left = False
        self._pid = os.getpid()
        atexit.register(self._at_exit)
        self._capture.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what was recorded and show the report; an exception of the block passes unchanged."""
        if self._left or self._capture is None or not self._mine:
            return
        self._left = True
        atexit.unregister(self._at_exit)
        try:
            self._capture.stop()
        finally:
            _leave_the_floor(self)
        if self._print and (place_in_job().rank or 0) == 0 and not self._capture.abandoned:
            self._capture.notes.guarded("the report could not be shown", self._show)

    def _at_exit(self) -> None:
        """The interpreter exits inside the block, as with a generator that nobody finished: report what there is."""
        if self._capture is not None and self._capture.runs_here:
            self.__exit__(None, None, None)
        self._left = True  # whoever leaves the block during shutdown finds half of Python gone

    @property
    def is_open_here(self) -> bool:
        """Whether this recorder's block is open in this process."""
        return self._capture is not None and self._mine

    def give_way(self) -> None:
        """Another block takes over: stop listening and leave no file."""
        if self._capture is not None:
            self._capture.notes.guarded("the outer recorder could not be stopped", self._capture.abandon)

    @property
    def _mine(self) -> bool:
        """False in a forked child: the recording belongs to its parent."""
        return self._pid == os.getpid()

    def _write(self, capture: Capture) -> None:
        from mfu_doctor.capture.export.export import write_capture

        self.path = write_capture(capture)

    def _show(self) -> None:
        report = self.report
        text = str(report) if report is not None else "\n".join(f"mfu-doctor: {note}" for note in self.notes)
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


_floor: list[Recorder] = []  # the recorder whose block is open; at most one


def _take_the_floor(recorder: Recorder) -> None:
    """Make this the one open block of the process."""
    open_blocks = [other for other in _floor if other.is_open_here]
    for other in open_blocks:
        if not other.yields:
            raise DoctorError(
                f"profile() is already open at {other.site}", "leave that block first, or give it enabled=False"
            )
        other.give_way()
    _floor[:] = [recorder]


def _leave_the_floor(recorder: Recorder) -> None:
    if recorder in _floor:
        _floor.remove(recorder)


def _diagnose(path: Path) -> Report:
    from mfu_doctor.api.diagnose import diagnose

    return diagnose(path)


def _caller() -> str:
    """File and line of the nearest frame outside this package."""
    frame, own = sys._getframe(1), own_directory()  # noqa: SLF001 - the documented way
    while frame.f_back is not None and frame.f_code.co_filename.startswith(own):
        frame = frame.f_back
    return f"{shown_path(frame.f_code.co_filename, destination.working_directory())}:{frame.f_lineno}"
