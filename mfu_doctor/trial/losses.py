"""Whether a fix changes what the program learns: its losses beside those of the unchanged runs, as pure functions.

Two unchanged runs need not be alike: a program without a seed differs from itself, often in all losses of a run, since it begins
with other weights. Then only several runs against several tell whether a fix changes what is learnt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from statistics import fmean, median, stdev
from typing import TypeAlias

from msgspec import Struct

from mfu_doctor.result.trial import (
    AS_UNCHANGED,
    CLOSE,
    DIVERGES,
    DRIFTS,
    IDENTICAL,
    NO_LOSS,
    NOT_A_NUMBER,
    OTHER_ORDER,
)
from mfu_doctor.trial.estimate import student

Curve: TypeAlias = Sequence[float | None]  # None: not a number

_CLOSE = 1e-3  # of the loss: what the last bits of float32 become in some tens of steps
# A smaller loss is compared with this share of the usual one, or with this of the largest: what has come down to nothing differs
# by any factor.
_SMALL, _NOTHING = 0.1, 1e-3
_WRONG = 0.01  # how often another course is claimed where there is none


class LossChange(Struct, frozen=True):
    """What a fix did to the losses.

    Attributes:
        kind: one of `result.trial.LOSSES`.
        at: number of the backward pass from which they are others.
        most: how far they are from the unchanged ones at most, as a share.
    """

    kind: str
    at: int | None = None
    most: float | None = None


def loss_change(unchanged: Sequence[Curve], changed: Sequence[Curve]) -> LossChange:
    """Compare the losses of runs with those of unchanged runs, over the passes that all have.

    Args:
        unchanged: the losses of each unchanged run, one or more.
        changed: those of each run with the fix, one or more.
    """
    count = min(len(curve) for curve in (*unchanged, *changed))
    if not count:
        return LossChange(NO_LOSS)
    before, after = [list(curve[:count]) for curve in unchanged], [list(curve[:count]) for curve in changed]
    wrong = not_a_number(before, after)
    if wrong is not None:
        return wrong
    if all(curve in before for curve in after):
        return LossChange(IDENTICAL)
    kept = _numbers(before)
    if not kept:
        return LossChange(NO_LOSS)
    numbers = [
        [[value for value in curve[:kept] if value is not None] for curve in curves] for curves in (before, after)
    ]
    return _compared(*numbers)


def not_a_number(unchanged: Sequence[Curve], changed: Sequence[Curve]) -> LossChange | None:
    """The first loss that is not a number where those of the unchanged runs still are; None if there is none."""
    kept = _numbers(unchanged)
    at = min((i for curve in changed for i, loss in enumerate(curve[:kept]) if loss is None), default=None)
    return LossChange(NOT_A_NUMBER, at) if at is not None else None


def _numbers(curves: Sequence[Curve]) -> int:
    """For how many passes all of these are numbers."""
    return min(next((i for i, loss in enumerate(curve) if loss is None), len(curve)) for curve in curves)


def _compared(unchanged: Sequence[Sequence[float]], changed: Sequence[Sequence[float]]) -> LossChange:
    apart = max((_apart(unchanged, curve) for curve in changed), key=max)
    most = max(apart)
    if most == 0:
        return LossChange(AS_UNCHANGED)
    if most <= _CLOSE:
        return LossChange(CLOSE, None, most)
    at = next(i for i, share in enumerate(apart) if share > _CLOSE)
    if any(_diverges(unchanged, curve) for curve in changed):
        return LossChange(DIVERGES, at, most)
    if all(max(_apart(unchanged[:1], curve)) <= _CLOSE for curve in unchanged):
        return LossChange(OTHER_ORDER if _same_course(unchanged, changed) else DRIFTS, at, most)
    return LossChange(DRIFTS, at, most) if _other_courses(unchanged, changed) else LossChange(AS_UNCHANGED)


def _apart(unchanged: Sequence[Sequence[float]], changed: Sequence[float]) -> list[float]:
    """How far each loss lies outside of where two unchanged runs may be, as a share of the loss."""
    lows, highs = [min(row) for row in zip(*unchanged, strict=True)], [max(row) for row in zip(*unchanged, strict=True)]
    widths = accumulate((high - low for low, high in zip(lows, highs, strict=True)), max)
    sizes = [abs(value) for value in highs]
    least = max(_SMALL * median(sizes), _NOTHING * max(sizes))
    apart = []
    for value, low, high, width in zip(changed, lows, highs, widths, strict=True):
        outside = max(low - width - value, value - high - width, 0.0)
        scale = max(abs(low), abs(high), least)
        apart.append(outside / scale if scale else float(outside > 0))
    return apart


def _diverges(unchanged: Sequence[Sequence[float]], changed: Sequence[float]) -> bool:
    """Whether the last losses are above all that the unchanged runs ever had, by more than those differ."""
    last = changed[-max(len(changed) // 4, 1) :]
    every = [value for curve in unchanged for value in curve]
    return fmean(last) > max(every) + (max(every) - min(every)) and last[-1] > changed[0]


def _same_course(unchanged: Sequence[Sequence[float]], changed: Sequence[Sequence[float]]) -> bool:
    """Whether single losses differ from those of a program that repeats itself, and their mean in the second half does not."""
    return all(_vary_around_nothing(_from_the_mean(unchanged, curve)) for curve in changed)


def _vary_around_nothing(values: Sequence[float]) -> bool:
    count = len(values)
    return count > 1 and abs(fmean(values)) <= student(1 - _WRONG / 2, count - 1) * stdev(values) / math.sqrt(count)


def _other_courses(unchanged: Sequence[Sequence[float]], changed: Sequence[Sequence[float]]) -> bool:
    """Whether the second halves are on average elsewhere than those of a program that does not repeat itself.

    Each run is one value, because what it began with shifts all its losses: Student's test of two sets of runs.
    """
    sides = [[fmean(_from_the_mean(unchanged, curve)) for curve in curves] for curves in (unchanged, changed)]
    before, after = sides
    freedom = len(before) + len(after) - 2
    squares = sum((value - fmean(side)) ** 2 for side in sides for value in side)
    error = math.sqrt(squares / freedom * (1 / len(before) + 1 / len(after)))
    return abs(fmean(after) - fmean(before)) > student(1 - _WRONG / 2, freedom) * error


def _from_the_mean(unchanged: Sequence[Sequence[float]], curve: Sequence[float]) -> list[float]:
    """The second half of a curve, each loss less the mean of the unchanged ones."""
    half = len(curve) // 2
    means = [fmean(row) for row in zip(*unchanged, strict=True)]
    return [value - mean for value, mean in zip(curve[half:], means[half:], strict=True)]
