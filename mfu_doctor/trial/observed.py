"""The steps and losses of a program that runs without a profiler.

A step is the time from the end of one to the end of the next. What happens between two (an evaluation, the workers of the next
epoch) is in the later one: a trial compares the same steps of the same program, and a fix may act there too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from mfu_doctor.capture.loop.step_observer import StepObserver
from mfu_doctor.capture.loop.stopwatch import Mark, capturing_graph, mark, seconds_between
from mfu_doctor.capture.profiler.mode_isolation import without_user_modes
from mfu_doctor.units import NS_PER_S

_MOST = 100_000  # steps; of a program that has no end


class ObservedRun:
    """What is seen of a run; nothing in it waits for a device before `steps_s` and `losses` are asked for."""

    def __init__(self) -> None:
        self._observer = StepObserver(self._each)
        self._first_ns = 0
        self._ends: list[Mark] = []
        self._losses: list[tuple[int, Any]] = []
        self._stepped: Callable[[int], None] | None = None

    @property
    def source(self) -> str:
        """What the steps are found from."""
        return self._observer.source

    @property
    def notes(self) -> list[str]:
        """What could not be seen, and why."""
        return self._observer.notes.said

    @contextmanager
    def observed(self, stepped: Callable[[int], None]) -> Iterator[None]:
        """See what runs inside.

        Args:
            stepped: called with the number of steps so far when one has ended; it may end the process.
        """
        self._stepped = stepped
        self._observer.start()
        self._observer.losses.wanted = True
        try:
            yield
        finally:
            self._observer.stop()

    def steps_s(self) -> tuple[float, ...]:
        """Seconds of each step; waits for the device."""
        later = tuple(seconds_between(*pair) for pair in pairwise(self._ends))
        return (self._first_ns / NS_PER_S, *later) if self._ends else ()

    def losses(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """The numbers of the steps that have a loss, and the losses; waits for the device."""
        return tuple(step for step, _ in self._losses), tuple(float(loss) for _, loss in self._losses)

    def _each(self, took_ns: int, _waited_ns: int) -> None:
        if self._observer.clock.steps == 1:  # all before were no steps
            self._first_ns = took_ns
            self._ends.clear()
            self._losses.clear()
        if len(self._ends) >= _MOST or capturing_graph():
            return
        with without_user_modes():
            self._ends.append(mark())
            self._observer.notes.guarded("a loss could not be kept", self._keep)
        if self._stepped is not None:
            self._stepped(len(self._ends))

    def _keep(self) -> None:
        loss = self._observer.losses.take()
        if loss is not None:  # on a device a copy stays there, since to read it would wait
            kept = loss.detach()
            self._losses.append((len(self._ends), kept.item() if kept.device.type == "cpu" else kept.clone()))
