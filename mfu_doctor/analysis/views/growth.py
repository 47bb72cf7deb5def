"""Whether the usual step of a run grows longer as the run goes on: lists that are scanned, metrics over all samples so far.

The steps rise in a line, which may fall back to its beginning (a metric is reset with each epoch) and rise again. A machine that
becomes slower makes all lines of a program slower alike. What grows in the program is in some of its lines.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.facts import Facts
from mfu_doctor.facts.whole_run import LineTime, StepCourse

Floats = npt.NDArray[np.float64]

_FEWEST = 16  # parts of a run; in fewer a line and a step up look alike
_BESIDE = 3  # parts whose median is compared with that of as many before: one odd part is no fall
_FALL = 0.5  # of the range of the run: a fall back to the beginning is about all of it
_EXPLAINED = 0.5  # of the variance, by the line
_AT_FIRST = 8  # parts at the beginning of a rise
# The deviation of a line through so many parts at the first of them, in those of a part: sqrt(1 / 8 + 3.5 ** 2 / 42).
_ERROR_OF_BEGIN = 0.65
_DEVIATION_OF_CHANGES = 1.05  # of one part, from the median of the changes from part to part: 1.4826 / sqrt(2)
_CLEARLY = 3  # deviations
_WORTH = 0.05  # of the mean step: parts of a run differ by this without a reason
# Of what the growth would be beyond an even one: see `_own`.
_OWN = 0.5


class Growth(Struct, frozen=True):
    """A growing step; seconds.

    Attributes:
        first_s: the step at the beginning of a rise.
        last_s: the step at the end of the longest one.
        step_s: what each step takes more than the one before.
        error_s: the standard error of that.
        mean_s: the mean of the usual steps.
        short_s: the mean of the shortest third of them, which lines were looked at in.
        rises: how often the step rises from its beginning.
        lines: that grow, the most first; empty if too little was seen to tell.
    """

    first_s: float
    last_s: float
    step_s: float
    error_s: float
    mean_s: float
    short_s: float
    rises: int
    lines: tuple[LineTime, ...]

    @property
    def excess_s(self) -> float:
        """What the mean step takes more than the first one."""
        return self.mean_s - self.first_s

    def without_s(self, line: LineTime) -> float:
        """The step without this line: nothing of what grows in it is left, not even what the first steps have of it."""
        return min(self.short_s - line.short_s, self.first_s)


def growth_of(facts: Facts | None) -> Growth | None:
    """The growth of a run's step; None if it does not grow, if all of the program becomes slower, or if nothing tells."""
    course = facts.course if facts is not None else None
    if course is None or len(course.parts_s) < _FEWEST:
        return None
    found = _rising(course)
    if found is None or not course.lines:
        return found
    lines = _own(course.lines)
    return None if lines is None else replace(found, lines=lines)


def _rising(course: StepCourse) -> Growth | None:
    """The line that explains the course best, with falls or without: a burst of noise ends in a fall too."""
    level = np.array(course.parts_s, np.float64)
    lines = [_line(level, begins) for begins in ([0], _begins(level))]
    best = min(lines, key=lambda line: line.left)
    varies = float(((level - level.mean()) ** 2).sum())
    if best.slope <= 0 or level.mean() - best.first < _WORTH * level.mean() or best.left > (1 - _EXPLAINED) * varies:
        return None
    if best.left >= _left_by_a_step(level[np.argsort(best.phase, kind="stable")]):
        return None
    return Growth(
        first_s=_first(level, best),
        last_s=best.first + best.slope * float(best.phase.max()),
        step_s=best.slope / course.steps,
        error_s=best.error / course.steps,
        mean_s=float(level.mean()),
        short_s=float(np.sort(level)[: len(level) // 3].mean()),
        rises=len(best.begins),
        lines=(),
    )


def _first(level: Floats, line: _Line) -> float:
    """The step at the beginning of a rise: the line's, or what its first parts have, where these are clearly elsewhere.

    What grows less and less begins below its line, and what grows more and more begins above it. Of all rises the lowest counts:
    in another one something else took time.
    """
    begins = [_begin(level[at : at + _AT_FIRST]) for at in line.begins if at + _AT_FIRST <= len(level)]
    first, noise = min(begins, default=line.first), float(np.median(np.abs(np.diff(level)))) * _DEVIATION_OF_CHANGES
    elsewhere = abs(first - line.first) > _CLEARLY * _ERROR_OF_BEGIN * noise
    return max(first if elsewhere else line.first, float(level.min()))


def _begin(level: Floats) -> float:
    """Where the line through these parts begins; the median of the lines through any two of them, whatever odd ones do."""
    place = np.arange(len(level))
    early, late = np.triu_indices(len(level), 1)
    slope = np.median((level[late] - level[early]) / (late - early))
    return float(np.median(level - slope * place))


class _Line(Struct, frozen=True):
    """A line from the beginning of each rise; `phase` counts the parts since then, `left` is the sum of squares beside it."""

    phase: Floats
    begins: list[int]
    first: float
    slope: float
    error: float
    left: float


def _line(level: Floats, begins: list[int]) -> _Line:
    place = np.arange(len(level))
    phase = place - np.array(begins, np.float64)[np.searchsorted(begins, place, side="right") - 1]
    spread = phase - phase.mean()
    moved = float((spread**2).sum())
    slope = float((spread * level).sum()) / moved
    first = float(level.mean() - slope * phase.mean())
    left = float(((level - first - slope * phase) ** 2).sum())
    return _Line(phase, begins, first, slope, float(np.sqrt(left / (len(level) - 2) / moved)), left)


def _begins(level: Floats) -> list[int]:
    """The parts at which a rise begins: the first one, and where the level falls by much of its range."""
    middle = np.median(np.lib.stride_tricks.sliding_window_view(level, _BESIDE), axis=1)
    fall = np.concatenate((np.zeros(_BESIDE), middle[:-_BESIDE] - middle[_BESIDE:], np.zeros(_BESIDE - 1)))
    low, high = np.quantile(level, [0.05, 0.95])
    falls = fall > _FALL * (high - low)
    stretches = np.split(np.arange(len(level)), np.flatnonzero(np.diff(falls)) + 1)
    return [0, *(int(at[np.argmax(fall[at])]) for at in stretches if falls[at[0]])]


def _left_by_a_step(level: Floats) -> float:
    """The sum of squares that is left if the level is two constants, one after the other, at the best place."""
    count = np.arange(1, len(level))
    total, squares = np.cumsum(level), float((level**2).sum())
    before, after = total[:-1], total[-1] - total[:-1]
    return squares - float((before**2 / count + after**2 / count[::-1]).max())


def _own(lines: Iterable[LineTime]) -> tuple[LineTime, ...] | None:
    """The lines that grow more than all lines together do; None if that is too little, because all grow alike.

    Of an even growth each line has the share that it has of the short step. Beyond it, the growing lines together can have at
    most the shares of all others.
    """
    known = tuple(lines)
    short, long = (sum(values) for values in zip(*((line.short_s, line.long_s) for line in known), strict=True))
    grown = long - short
    if short <= 0 or grown <= 0:
        return None
    beyond = {line: line.long_s - line.short_s * long / short for line in known}
    own = sorted((line for line in known if beyond[line] > 0), key=lambda line: -beyond[line])
    most = grown * (1 - sum(line.short_s for line in own) / short)
    return tuple(own) if sum(beyond[line] for line in own) >= _OWN * most else None
