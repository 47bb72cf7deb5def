"""Runs the program in fresh processes: once to record it, then as often as is asked, each time to its answer or its failure."""

from __future__ import annotations

import math
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from msgspec import Struct, field

from mfu_doctor.capture.destination import SUFFIX
from mfu_doctor.errors import DoctorError
from mfu_doctor.quantities import counted
from mfu_doctor.result.trial import CRASHED, HUNG, NO_MEMORY, SHORT
from mfu_doctor.trial.command import Program
from mfu_doctor.trial.orders import TRACE, Measured, Orders, read_result
from mfu_doctor.trial.process import Child

OUT_OF_TIME = "out of time"

_LOOKS_EVERY_S = 0.05
_FEWEST_STEPS = 4
_SLOW = 3.0  # times the unchanged steps: then fewer steps with a fix are enough
_NO_MEMORY = ("outofmemoryerror", "out of memory", "can't allocate memory", "memoryerror", "cannot allocate memory")
_ERROR = re.compile(r"(\[rank\d+\]: ?)?[\w.]*(Error|Exception)\b")


class Failure(Struct, frozen=True):
    """A run that gave no measurement.

    Attributes:
        kind: a verdict of `result.trial`, or `OUT_OF_TIME`.
        reason: the last line that it printed, or what was waited for.
    """

    kind: str
    reason: str

    def __str__(self) -> str:
        """As it is told."""
        return f"{self.kind}: {self.reason}"


class Patience(Struct, frozen=True):
    """How long a program may make no step: so many times the longest that the unchanged one took for one, and no less than this.

    The first step of torch.compile takes minutes where the unchanged one takes seconds.
    """

    times: float = 10.0
    least_s: float = 120.0

    def bound_s(self, unchanged_s: float | None) -> float:
        """The bound, of the longest time in which the unchanged program made no step; endless before that is known."""
        return math.inf if unchanged_s is None else max(self.times * unchanged_s, self.least_s)


class Budget(Struct):
    """The time that all runs may take together."""

    seconds: float
    _began: float = field(default_factory=time.monotonic)

    @property
    def spent_s(self) -> float:
        """What was spent so far."""
        return time.monotonic() - self._began

    @property
    def left_s(self) -> float:
        """What is left; never negative."""
        return max(self.seconds - self.spent_s, 0.0)


class Bench(Struct):
    """Where the program runs.

    Attributes:
        program: the program.
        budget: the time for all.
        patience: how long a run may make no step.
        source: what its steps are found from; None before it was recorded.
        steps: steps that a run is measured for, the first ones included.
        skipped: how many of these are its beginning.
        runs: how many there were.
    """

    program: Program
    budget: Budget
    patience: Patience = field(default_factory=Patience)
    source: str | None = None
    steps: int = 0
    skipped: int = 0
    runs: int = 0
    _measured_s: float | None = None  # the steps of the first unchanged run, without its beginning
    _took_s: list[float] = field(default_factory=list)  # each unchanged run
    _made: list[int] = field(default_factory=list)  # steps of each unchanged run
    _silence_s: float | None = None  # the longest time without a step in the first unchanged run

    @contextmanager
    def recorded(self) -> Iterator[Path]:
        """Run the unchanged program until its trace is written; the trace is gone when the block ends.

        Raises:
            DoctorError: it wrote none.
        """
        with (
            tempfile.TemporaryDirectory(prefix="mfu-doctor-") as name,
            self._child(Orders(name, records=True)) as child,
        ):
            folder = Path(name)
            while (trace := _trace_in(folder)) is None:
                if child.status is not None and (trace := _trace_in(folder)) is None:
                    said = _last_line(child.printed())
                    raise DoctorError(f"the unchanged program could not be recorded ({said})", "see mfu-doctor run")
                if not self.budget.left_s:
                    raise DoctorError(
                        f"the recording was not over after {self.budget.spent_s:.0f} s", "give it more --minutes"
                    )
                time.sleep(_LOOKS_EVERY_S)
            child.end()
            yield trace

    def measure(self, names: tuple[str, ...] = ()) -> Measured | Failure:
        """Run the program with these remedies."""
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="mfu-doctor-") as name:
            bound_s = _SLOW * self._measured_s if names and self._measured_s is not None else None
            orders = Orders(name, names, self.steps, self.source, skipped=self.skipped, longest_s=bound_s)
            with self._child(orders) as child:
                result, silence_s = self._answer(child)
        self.runs += 1
        if isinstance(result, Measured) and not names:
            self._took_s.append(time.monotonic() - began)
            self._made.append(len(result.steps_s))
            if self._silence_s is None:
                self._silence_s, self._measured_s = silence_s, sum(result.steps_s[self.skipped :])
        return result

    @property
    def made(self) -> int:
        """Steps of the usual unchanged run: a short program has fewer than are asked for."""
        return int(median(self._made)) if self._made else self.steps

    def left(self) -> int:
        """How many more runs there is time for.

        A fix that hangs, or that compiles in its first run, says nothing about the runs after it.
        """
        return int(self.budget.left_s // median(self._took_s)) if self._took_s else 1

    @contextmanager
    def _child(self, orders: Orders) -> Iterator[Child]:
        child = Child.start(self.program.command(orders.write()), Path(orders.folder))
        try:
            yield child
        finally:
            child.end()

    def _answer(self, child: Child) -> tuple[Measured | Failure, float]:
        """What became of it, and the longest time in which it made no step."""
        bound, steps, since, longest = self.patience.bound_s(self._silence_s), 0, time.monotonic(), 0.0
        while True:
            over = child.status is not None  # asked before: it answers, and then it is over
            result = read_result(child.folder)
            if result is not None:
                return (result if len(result.steps_s) >= _FEWEST_STEPS else _too_short(result)), longest
            if over:
                return _failure(child), longest
            now, count = time.monotonic(), child.steps
            longest = max(longest, now - since)
            if count != steps:
                steps, since = count, now
            if now - since > bound:
                said = _last_line(child.printed()) or "it printed nothing"
                return Failure(HUNG, f"no step in {bound:.0f} s: {said}"), longest
            if not self.budget.left_s:
                return Failure(OUT_OF_TIME, f"{counted(count, 'step')} when the time was over"), longest
            time.sleep(_LOOKS_EVERY_S)


def _trace_in(folder: Path) -> Path | None:
    """The trace of the program, or of its first rank."""
    alone, first = folder / TRACE, folder / TRACE.removesuffix(SUFFIX) / f"rank0{SUFFIX}"
    return next((path for path in (alone, first) if path.exists()), None)


def _too_short(result: Measured) -> Failure:
    seen = len(result.steps_s)
    why = f"it was over after {counted(seen, 'step')}" if seen else "no training step was seen"
    return Failure(SHORT, "; ".join((why, *result.notes)))


def _failure(child: Child) -> Failure:
    printed, status = child.printed(), child.status or 0
    if memory := _error_about_memory(printed):
        return Failure(NO_MEMORY, memory)
    said = _last_line(printed)
    if status == -signal.SIGKILL:
        return Failure(NO_MEMORY, "the system ended it, as it does when memory is short")
    if status < 0:
        return Failure(CRASHED, f"{signal.Signals(-status).name}: {said}" if said else signal.Signals(-status).name)
    return Failure(CRASHED, said or f"it ended with status {status} before its steps were measured")


def _last_line(printed: str) -> str:
    return next((line.strip() for line in reversed(printed.splitlines()) if line.strip()), "")


def _error_about_memory(printed: str) -> str | None:
    """The last error that memory ran out, as Python ends a traceback with it; a program may print such words besides."""
    errors = [line.strip() for line in printed.splitlines() if _ERROR.match(line)]
    return next((line for line in reversed(errors) if any(word in line.lower() for word in _NO_MEMORY)), None)
