"""Which lines of the user's program the training thread is at in its steps, and how that changes as the steps change.

A look costs some microseconds, so it is taken in usual steps too. All looks together are bounded: when there are too many, every
second one is dropped, and from then on every second one is kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from types import FrameType

from mfu_doctor.capture.loop.step_times import StepTimes
from mfu_doctor.capture.loop.where import Line, line_of
from mfu_doctor.facts.whole_run import LineTime, StepCourse
from mfu_doctor.units import NS_PER_S

_MOST_LOOKS = 4096
_PARTS = 128  # of a run: its steps vary less in the median of a part than alone
_MOST_LINES = 12  # in the file
_FEWEST_LOOKS = 50  # in each third: below that, a share of a fifth is known to a third of itself


class StepLines:
    """Looks at one thread in its un-profiled steps.

    Args:
        shown: a file as a report shows it; None for the code of a library.
        own: directory of this package.
    """

    def __init__(self, shown: Callable[[str], str | None], own: str) -> None:
        self._shown, self._own = shown, own
        self._looks: list[tuple[int, Line, int]] = []  # step, line, nanoseconds that the look stands for
        self._every = 1
        self._turn = 0

    def look(self, frame: FrameType | None, step: int, for_ns: int) -> None:
        """The thread is here in this step, and has been for so long."""
        self._turn += 1
        if self._turn % self._every:
            return
        line = line_of(frame, self._own, self._shown)
        if line is None:
            return
        self._looks.append((step, line, for_ns))
        if len(self._looks) >= _MOST_LOOKS:
            self._looks = self._looks[::2]
            self._every *= 2

    def forget(self) -> None:
        """The steps so far were none."""
        self._looks = []

    def course(self, times: StepTimes, startup: int) -> StepCourse | None:
        """How the steps after the beginning changed, and their lines with them; None if there are too few steps."""
        first, size, parts = times.course(startup, _PARTS)
        third = len(parts) // 3
        if not third:
            return None
        order = sorted(range(len(parts)), key=parts.__getitem__)
        short, long = (self._lines(first, size, parts, frozenset(of)) for of in (order[:third], order[-third:]))
        known = sorted(short.keys() | long.keys(), key=lambda line: -long.get(line, 0.0)) if short and long else []
        lines = tuple(
            LineTime(
                place=line.place,
                short_s=short.get(line, 0.0),
                long_s=long.get(line, 0.0),
                function=line.function,
                library=line.library,
            )
            for line in known[:_MOST_LINES]
        )
        return StepCourse(steps=size, parts_s=tuple(ns / NS_PER_S for ns in parts), lines=lines)

    def _lines(self, first: int, size: int, parts: tuple[int, ...], of: frozenset[int]) -> dict[Line, float]:
        """Seconds of a step of these parts that each line takes; empty if too little was seen of them."""
        seen: defaultdict[Line, int] = defaultdict(int)
        looks = 0
        for step, line, for_ns in tuple(self._looks):
            if step >= first and (step - first) // size in of:
                seen[line] += for_ns
                looks += 1
        if looks < _FEWEST_LOOKS:
            return {}
        step_s = sum(parts[part] for part in of) / len(of) / NS_PER_S
        return {line: step_s * ns / sum(seen.values()) for line, ns in seen.items()}
