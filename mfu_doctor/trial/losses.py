"""Whether a fix changes what the program learns: its losses beside those of the unchanged runs, as pure functions.

Two unchanged runs need not be alike: a program without a seed differs from itself. What is further from the unchanged losses than
they are from each other has another cause.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean, median, stdev
from typing import TypeAlias

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

Curve: TypeAlias = Sequence[float | None]  # None: not a number

_CLOSE = 1e-3  # of the loss: what the last bits of float32 become in some tens of steps
# A smaller loss is compared with this share of the usual one, or with this of the largest: what has come down to nothing differs
# by any factor.
_SMALL, _NOTHING = 0.1, 1e-3
_ERRORS = 3.0  # standard errors


@dataclass(frozen=True, slots=True)
class LossChange:
    """What a fix did to the losses.

    Attributes:
        kind: one of `result.trial.LOSSES`.
        at: number of the backward pass from which they are others.
        most: how far they are from the unchanged ones at most, as a share.
    """

    kind: str
    at: int | None = None
    most: float | None = None


def loss_change(unchanged: Sequence[Curve], changed: Curve) -> LossChange:
    """Compare the losses of a run with those of one or more unchanged runs, over the passes that all have.

    Args:
        unchanged: the losses of each unchanged run.
        changed: those with the fix.
    """
    count = min([len(changed), *map(len, unchanged)])
    if not count:
        return LossChange(NO_LOSS)
    curves = [curve[:count] for curve in unchanged]
    with_fix = changed[:count]
    if any(list(with_fix) == list(curve) for curve in curves):
        return LossChange(IDENTICAL)
    wrong = not_a_number(curves, with_fix)
    if wrong is not None:
        return wrong
    before = _numbers(curves)
    numbers = [[value for value in curve[:before] if value is not None] for curve in curves]
    return _compared(numbers, [value for value in with_fix[:before] if value is not None])


def not_a_number(unchanged: Sequence[Curve], changed: Curve) -> LossChange | None:
    """The first loss that is not a number where those of the unchanged runs still are; None if there is none."""
    at = next((i for i in range(min(len(changed), _numbers(unchanged))) if changed[i] is None), None)
    return LossChange(NOT_A_NUMBER, at) if at is not None else None


def _numbers(curves: Sequence[Curve]) -> int:
    """For how many passes all of these are numbers."""
    return min(next((i for i, loss in enumerate(curve) if loss is None), len(curve)) for curve in curves)


def _compared(unchanged: Sequence[Sequence[float]], changed: Sequence[float]) -> LossChange:
    if not changed:
        return LossChange(NO_LOSS)
    apart = _apart(unchanged, changed)
    most = max(apart)
    if most == 0:
        return LossChange(AS_UNCHANGED)
    if most <= _CLOSE:
        return LossChange(CLOSE, None, most)
    at = next(i for i, share in enumerate(apart) if share > _CLOSE)
    if _diverges(unchanged, changed):
        return LossChange(DIVERGES, at, most)
    return LossChange(OTHER_ORDER if _same_course(unchanged, changed) else DRIFTS, at, most)


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


def _same_course(unchanged: Sequence[Sequence[float]], changed: Sequence[float]) -> bool:
    """Whether single losses differ and their mean in the second half does not."""
    half = len(changed) // 2
    means = [fmean(row) for row in zip(*unchanged, strict=True)]
    differences = [value - mean for value, mean in zip(changed[half:], means[half:], strict=True)]
    if len(differences) < 2:
        return False
    return abs(fmean(differences)) <= _ERRORS * stdev(differences) / math.sqrt(len(differences))
