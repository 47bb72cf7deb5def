"""How a quantity reads inside a sentence of a finding: the same rounding in every rule.

Renderers format the report's numbers; these are for the sentences that rules write, which travel inside the report.
"""

from __future__ import annotations

import math

from mfu_doctor.units import NS_PER_MS, NS_PER_S, NS_PER_US

_TIMES = ((NS_PER_S, "s"), (NS_PER_MS, "ms"), (NS_PER_US, "us"), (1, "ns"))
_SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def share(part: float, whole: float) -> str:
    """A part as a percentage of the whole: 21 %, 3.2 %, 0.04 %."""
    percent = 100 * part / whole if whole else 0.0
    if percent >= 10 or percent == 0:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.1 else f"{percent:.2g} %"


def time_of(nanoseconds: float) -> str:
    """A duration with three significant digits: 412 ms, 1.23 s, 85.0 us."""
    if round(nanoseconds) == 0:
        return "0.0 ms"
    scale, unit = next(((s, u) for s, u in _TIMES if abs(nanoseconds) >= s), _TIMES[-1])
    return f"{_three_digits(nanoseconds / scale)} {unit}"


def span_of(low_ns: float, high_ns: float) -> str:
    """A range of predicted durations with two significant digits in one unit: 74-88 ms, 0.3-2.1 ms, 0.0 ms."""
    scale, unit = next(((s, u) for s, u in _TIMES if high_ns >= s), _TIMES[-1])
    if unit in ("us", "ns"):
        scale, unit = (NS_PER_MS, "ms") if high_ns < NS_PER_US / 2 else (NS_PER_US, "us")
    low, high = _two_digits(low_ns / scale), _two_digits(high_ns / scale)
    return f"{high} {unit}" if low == high else f"{low}-{high} {unit}"


def _two_digits(value: float) -> str:
    if value < 0.05:
        return "0.0"
    decimals = max(1 - math.floor(math.log10(value)), 0)
    return (
        f"{round(value, decimals):,.{decimals}f}"
        if decimals
        else f"{round(value, 1 - math.floor(math.log10(value))):,.0f}"
    )


def size_of(size: float) -> str:
    """A number of bytes: 74.2 MiB, 512 B."""
    for scale, unit in _SIZES:
        if abs(size) >= scale:
            return f"{_three_digits(size / scale)} {unit}"
    return f"{size:.0f} B"


def number(value: float) -> str:
    """A count or an average of counts: 9,412 or 2.5."""
    return f"{value:,.0f}" if value >= 100 or abs(value - round(value)) < 0.05 else f"{value:,.1f}"


def counted(value: float, noun: str) -> str:
    """A count with its noun: 1 copy, 2.5 copies."""
    if number(value) == "1":
        return f"1 {noun}"
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith(("ch", "sh", "s")) else "s")
    return f"{number(value)} {plural}"


def first_of(count: int, noun: str) -> str:
    """The first so many of something: "first judged step", "first 3 judged steps"."""
    return f"first {noun}" if count == 1 else f"first {counted(count, noun)}"


def _three_digits(value: float) -> str:
    decimals = max(2 - math.floor(math.log10(abs(value))), 0) if value else 0
    return f"{value:,.{decimals}f}"
