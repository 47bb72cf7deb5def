"""How likely it is that a mean over steps is above zero by chance alone: Student's distribution, since recorded steps are few."""

from __future__ import annotations

import math

from mfu_doctor.job.across.table import Floats

# Of a hundred healthy jobs one may be told that a rank is slow.
_BY_CHANCE = 0.01


def is_sure(by_step: Floats, *, among: int) -> bool:
    """Whether the mean over steps is above zero by more than chance; of one step it is not known, and is taken to be.

    Args:
        by_step: a value of each step, shape (steps,).
        among: how many ranks it could have been: the more are looked at, the more often one stands out by chance.
    """
    if len(by_step) < 2 or not by_step.std():
        return bool(by_step.sum() > 0)
    t = float(by_step.mean() / by_step.std(ddof=1)) * math.sqrt(len(by_step))
    return above(t, len(by_step) - 1) * among < _BY_CHANCE


def above(t: float, freedom: int) -> float:
    """The probability that a value of Student's distribution is above `t` (Abramowitz and Stegun, 26.7.3 and 26.7.4).

    Args:
        t: any number.
        freedom: degrees of freedom, at least 1.
    """
    angle = math.atan2(t, math.sqrt(freedom))
    squared = math.cos(angle) ** 2
    is_odd = freedom % 2
    term, total = (math.cos(angle), 0.0) if is_odd else (1.0, 0.0)
    for k in range(1 + is_odd, freedom, 2):  # the powers of the cosine up to `freedom` - 2
        total += term
        term *= squared * k / (k + 1)
    within = math.sin(angle) * total
    return (1.0 - ((angle + within) * 2 / math.pi if is_odd else within)) / 2
