"""The log line of an unchanged program, every so many steps, for the whole run: loss, time and MFU, as nanoGPT prints them.

A step costs a comparison. Only where a line is printed the loss is read, which waits for the device. Lines of steps that are
recorded are printed after them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from mfu_doctor.capture.capture import Capture
from mfu_doctor.capture.loop.losses import value_of
from mfu_doctor.capture.loop.step_times import StepTimes
from mfu_doctor.capture.profiler.mode_isolation import without_user_modes
from mfu_doctor.errors import DoctorError
from mfu_doctor.meter.reading import milliseconds, share
from mfu_doctor.session.ending import work_of
from mfu_doctor.units import NS_PER_S, TERA

_NOT_YET = "the recorded steps have not been counted yet"
_FAILED = "a line could not be written"


class Line(Struct, frozen=True, kw_only=True):
    """One line. Its means are over the steps since the last one that ran without a profiler, by the host's clock.

    Attributes:
        iter: number of the step that ended, from 0.
        loss: the value on which `backward()` was called in it; None if that was not one number.
        steps: steps that the means are over.
        time_s: mean step.
        data_wait_s: mean wait of a step for its batches, with steps under a profiler.
        mfu: as the report counts it.
        tflops: model FLOP per second, in 10^12.
        reason: why MFU is not known.
    """

    iter: int
    loss: float | None
    steps: int
    time_s: float | None
    data_wait_s: float | None
    mfu: float | None
    tflops: float | None
    reason: str | None

    def __str__(self) -> str:
        loss = "-" if self.loss is None else f"{self.loss:.4f}"
        return f"iter {self.iter}: loss {loss}, time {milliseconds(self.time_s)}, mfu {share(self.mfu)}"


class Live:
    """Prints the lines of one run.

    Args:
        every: steps from one line to the next.
        file: gets each line as JSON as well; None: none does.

    Raises:
        DoctorError: the number is too small; the file is there and holds something else.
    """

    def __init__(self, every: int, file: Path | None = None) -> None:
        if every < 1:
            raise DoctorError(f"--live {every} is not valid", "pass 1 or more steps")
        if file is not None and not _holds_lines(file):
            raise DoctorError(f"{file} holds something else", "pass another file")
        self._every, self._file = every, None if file is None else file.absolute()
        self._work: tuple[float | None, float | None, str | None] | None = None  # as `work_of` tells
        self._times, self._since = StepTimes(), (0, 0)
        self._waited_ns = self._all = 0
        self._explained = False
        # Lines that wait with their losses: to read one in a recorded step would look like the program's wait for the device.
        self._held: list[tuple[Line, Any]] = []
        self._capture: Capture | None = None

    def begin(self, capture: Capture, say: Callable[[str], None]) -> None:
        """Print the lines of what this capture sees."""
        self._capture, self._notes, self._say = capture, capture.notes, say
        self._losses, self._clock = capture.signs.losses, capture.watch.clock
        self._losses.wanted = True
        capture.notes.guarded(_FAILED, self._losses.watch)
        self._clock.each = self._ended
        say(
            f"mfu-doctor: a line for every {self._every} steps: the loss as backward() got it, which waits for the device"
            " then; the mean time of the steps since the last line, by the host's clock; mfu once steps were recorded,"
            " which are then read in one pause"
        )

    def end(self) -> None:
        """The block is over; safe to call twice."""
        if self._capture is not None:
            self._capture.watch.clock.each = None
            self._notes.guarded(_FAILED, self._print)
            self._capture.signs.losses.stop()

    def recorded(self, path: Path, folder: Path | None) -> None:
        """The trace is written: from now on the lines have MFU. It is read here and now, whoever else takes the cores."""
        self._work = work_of(path, folder)

    def _ended(self, _took_ns: int, waited_ns: int) -> None:
        self._waited_ns += waited_ns
        self._all += 1
        number = self._clock.steps - 1
        if number % self._every == 0:
            self._notes.guarded(_FAILED, self._hold, number)
        if self._held and self._capture is not None and not self._capture.phase_runner.attached:
            self._notes.guarded(_FAILED, self._print)
        self._losses.wanted = (number + 1) % self._every == 0

    def _hold(self, number: int) -> None:
        self._held.append((self._line(number), self._losses.take()))

    def _print(self) -> None:
        for line, tensor in self._taken():
            with without_user_modes():
                loss = value_of(tensor)
            self._print_line(replace(line, loss=loss))

    def _taken(self) -> list[tuple[Line, Any]]:
        held, self._held = self._held, []
        return held

    def _print_line(self, line: Line) -> None:
        self._say(str(line))
        if self._work is not None and line.mfu is None and line.steps and not self._explained:
            self._explained = True
            self._say(f"mfu-doctor: mfu is not known: {line.reason}")
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(f"{json.dumps(asdict(line))}\n")

    def _line(self, number: int) -> Line:
        times = self._clock.times
        if times is not self._times:  # what came before were no steps
            self._times, self._since = times, (0, 0)
        steps, ns = times.count - self._since[0], times.total_ns - self._since[1]
        wait_s = self._waited_ns / self._all / NS_PER_S if self._all else None
        self._since, self._waited_ns, self._all = (times.count, times.total_ns), 0, 0
        work, step_s = self._work, ns / steps / NS_PER_S if steps else None
        flops, ideal_s, reason = work or (None, None, _NOT_YET)
        return Line(
            iter=number,
            loss=None,
            steps=steps,
            time_s=step_s,
            data_wait_s=wait_s,
            mfu=None if not step_s or ideal_s is None else ideal_s / step_s,
            tflops=None if not step_s or flops is None else flops / step_s / TERA,
            reason=reason,
        )


def _holds_lines(file: Path) -> bool:
    """Whether lines may be added to a file: it is empty, as one that was not there, or begins with a line of JSON."""
    try:
        with file.open("a+b") as stream:  # as for adding: a place that cannot be written is told before the training
            stream.seek(0)
            return stream.read(1) in (b"", b"{")
    except OSError as error:
        raise DoctorError(f"{file} cannot be written ({error.strerror})", "pass another file") from error
