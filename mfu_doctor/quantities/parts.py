"""How predicted parts of a measured time read: what is saved of a step, and what is then left of it.

A part has two digits, but as many decimals as the whole is told with: a reader who subtracts gets the figure that is printed for
the rest (123 of 180 ms leave 57 ms). What is left, and how many times as fast that is, is calculated from the figures told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from mfu_doctor.quantities import SMALLEST_TIME_S, duration, ends_of, significant, time_unit


def estimate(ends: tuple[float, float] | None, best: float, whole: float, *, about: str, dash: str = "-") -> str:
    """A predicted part of a measured time: its best estimate, and behind it the range if one is told: about 30 ms (6-67).

    Args:
        ends: the range in seconds; None: none is told.
        best: the best estimate.
        whole: what it is a part of.
        about: what stands before it ("about", "up to"); empty: it is the figure.
        dash: between the ends.
    """
    told = f"{about} {part_alone(best, whole)}".lstrip()
    between = "" if ends is None else part_range(*ends, whole, dash)
    if dash not in between:
        return told
    return f"{told} ({between.removesuffix(told[told.rindex(' ') :])})"


def part_range(low: float, high: float, whole: float, dash: str = "-") -> str:
    """A predicted range of parts of a measured time: 57-62 ms."""
    scale, unit = time_unit(max(abs(low), abs(high), SMALLEST_TIME_S), 2)
    digits = part_digits(low, whole), part_digits(high, whole)
    return f"{ends_of(low / scale, high / scale, digits, dash)} {unit}"


def part_of(part: float, whole: float) -> str:
    """A predicted part of a measured time, in the unit of the whole: 57 of 176 ms."""
    scale, unit = time_unit(whole)
    return f"{significant(part / scale, part_digits(part, whole))} of {significant(whole / scale)} {unit}"


def part_alone(part: float, whole: float) -> str:
    """The same without the whole, in its own unit: 57 ms."""
    return duration(part, part_digits(part, whole))


def part_digits(part: float, whole: float) -> int:
    """Digits of a predicted part of a measured time: two, but three if two would be coarser than the whole is told."""
    return 3 if whole > 0 and _rounded(part, 3) >= 10.0 ** math.floor(math.log10(_rounded(whole, 3))) else 2


def left_of(whole: float, parts: Iterable[float]) -> float:
    """What is left of a measured time after these parts of it, as somebody calculates it who reads their figures."""
    return _rounded(whole, 3) - sum(_rounded(part, part_digits(part, whole)) for part in parts)


def times_as_fast(whole: float, left: float) -> float:
    """How many times as fast something is of which so much is left, by the figures that are told."""
    return _rounded(whole, 3) / left


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits - 1}e}")
