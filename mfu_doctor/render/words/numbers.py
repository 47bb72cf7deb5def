"""How numbers read: three significant digits for what was measured, two for what is predicted, the unit always named.

All renderers share it, so that one quantity looks the same on every screen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mfu_doctor.units import GIGA, TERA

PETA, MEGA, KILO = 1e15, 1e6, 1e3
GIB, MIB, KIB = 2.0**30, 2.0**20, 2.0**10

SMALLEST_PERCENT = 0.01  # smaller ones have no meaning that their digits would carry
TOO_SMALL = 1e-4  # of a peak: a rate below would start with zeros in the peak's unit

_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32", "float64": "fp64"}
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def significant(value: float, digits: int = 3) -> str:
    """The value rounded to so many significant digits, without exponent: 0.0523, 31.4, 9,410."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(digits - 1 - math.floor(math.log10(abs(rounded))), 0)
    return f"{rounded:,.{decimals}f}"


def count(value: float) -> str:
    """A number of things: whole up to rounding, with thousands separated; small averages keep one decimal."""
    return f"{value:,.0f}" if value >= 100 or abs(value - round(value)) < 0.05 else f"{value:,.1f}"


def _time_unit(seconds: float, digits: int) -> tuple[float, str]:
    """The unit in which a time reads as 1 to 999, after rounding to the digits shown."""
    size = float(f"{abs(seconds):.{digits - 1}e}")
    return next((unit for unit in _TIMES if size >= unit[0]), _TIMES[-1])


def duration(seconds: float, digits: int = 3) -> str:
    """A time with its unit: 412 ms, 1.23 s, 85.0 us."""
    if seconds == 0:
        return "0 ms"
    scale, unit = _time_unit(seconds, digits)
    return f"{significant(seconds / scale, digits)} {unit}"


def _ends(low: float, high: float, digits: int, dash: str) -> str:
    """Two ends of a range with the larger one's digits; the smaller may have one decimal more."""
    large = significant(max(abs(low), abs(high)), digits)
    decimals = len(large.partition(".")[2]) + 1
    ends = []
    for end in (low, high):
        own = significant(end, digits)
        ends.append(own if len(own.partition(".")[2]) <= decimals else f"{end:.{decimals}f}")
    return ends[0] if ends[0] == ends[1] else dash.join(ends)


def duration_range(low: float, high: float, digits: int = 2, dash: str = "-") -> str:
    """A predicted range in one unit: 74-88 ms; one number where both ends round to it."""
    if high == 0 and low == 0:
        return "0.0 ms"
    scale, unit = _time_unit(max(abs(low), abs(high)), digits)
    return f"{_ends(low / scale, high / scale, digits, dash)} {unit}"


def spread(deviation: float, middle: float) -> str:
    """A deviation in the unit of what it belongs to: 3.1 ms beside 412 ms."""
    scale, unit = _time_unit(middle, 3)
    return f"{_ends(deviation / scale, deviation / scale, 2, '-')} {unit}"


def table_unit(whole_s: float) -> tuple[float, str]:
    """One unit for a column of times whose sum is `whole_s`: its size in seconds and its name."""
    return _time_unit(whole_s, 3)


def table_column(values: Sequence[float]) -> list[str]:
    """Numbers of one column with equal decimals, three digits for their sum, rounded so that they sum to it."""
    whole = sum(values)
    decimals = max(2 - math.floor(math.log10(whole)), 0) if whole > 0 else 0
    parts = apportion(values, round(whole * 10**decimals))
    return [f"{part / 10**decimals:,.{decimals}f}" for part in parts]


def percent(share: float, decimals: int = 1) -> str:
    """A fraction as a percentage: 31.4 %; below 1 % two significant digits, below 0.01 % just that."""
    value = share * 100
    if 0 < value < SMALLEST_PERCENT:
        return f"<{SMALLEST_PERCENT} %"
    if value != 0 and abs(value) < 1:
        return f"{significant(value, 2)} %"
    return f"{value:.{decimals}f} %"


def percent_range(low: float, high: float, digits: int = 2, dash: str = "-") -> str:
    """A range of fractions as percentages: 38-40 %."""
    if 0 < high * 100 < SMALLEST_PERCENT:
        return f"<{SMALLEST_PERCENT} %"
    return f"{_ends(low * 100, high * 100, digits, dash)} %"


def signed_percent(share: float) -> str:
    """A relative change: +8.6 %, -0.4 %; never "-0.0"."""
    value = round(share * 100, 1) or 0.0
    return f"{value:+.1f} %"


def points(difference: float) -> str:
    """A difference of two percentages: -2.5 points."""
    value = round(difference * 100, 1) or 0.0
    return f"{value:+.1f} points"


def _prefix(value: float) -> tuple[float, str]:
    for scale, letter in ((PETA, "P"), (TERA, "T"), (GIGA, "G"), (MEGA, "M")):
        if abs(value) >= scale:
            return scale, letter
    return KILO, "k"


def flops(value: float) -> str:
    """A number of floating-point operations: 128 TFLOP."""
    scale, letter = _prefix(value)
    return f"{significant(value / scale)} {letter}FLOP"


def flops_rate(value: float, digits: int = 3) -> str:
    """A rate: 311 TFLOP/s."""
    return f"{flops_in(value, value, digits)}"


def flops_in(value: float, like: float, digits: int = 3) -> str:
    """A rate in the unit that suits `like`. Peaks up to 9999 stay in tera, as datasheets print them."""
    scale, letter = (TERA, "T") if TERA <= abs(like) < 10 * PETA else _prefix(like)
    return f"{significant(value / scale, digits)} {letter}FLOP/s"


def flops_of_peak(achieved: float, peak: float) -> str:
    """Both rates in the peak's unit: 311 of 989.5 TFLOP/s; a rate too small for it keeps its own."""
    number, name = flops_in(peak, peak, 4).split(" ")
    shown = number.rstrip("0").rstrip(".") if "." in number else number
    far = achieved < peak * TOO_SMALL
    return f"{flops_rate(achieved) if far else flops_in(achieved, peak).split(' ')[0]} of {shown} {name}"


def size(n_bytes: float) -> str:
    """A number of bytes in binary units: 79.1 GiB."""
    for scale, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(n_bytes) >= scale:
            return f"{significant(n_bytes / scale)} {unit}"
    return f"{n_bytes:.0f} B"


def bandwidth(bytes_per_second: float) -> str:
    """A rate of bytes in decimal units, as links and memories are sold: 12.4 GB/s, 3.35 TB/s."""
    for scale, unit in ((TERA, "TB/s"), (GIGA, "GB/s"), (MEGA, "MB/s"), (KILO, "kB/s")):
        if abs(bytes_per_second) >= scale:
            return f"{significant(bytes_per_second / scale)} {unit}"
    return f"{bytes_per_second:.0f} B/s"


def dtype(name: str) -> str:
    """The short name of a number format: bf16 for torch.bfloat16."""
    bare = name.removeprefix("torch.").lower()
    return _DTYPES.get(bare, bare)


def apportion(values: Sequence[float], total: int) -> list[int]:
    """Whole parts proportional to the values that sum to `total` exactly (largest remainder); for shares of 100.0."""
    whole = sum(values)
    if whole <= 0:
        return [0] * len(values)
    exact = [value * total / whole for value in values]
    parts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(values)), key=lambda i: (parts[i] - exact[i], i))
    for index in by_remainder[: total - sum(parts)]:
        parts[index] += 1
    return parts


def measure(value: float | int | str, unit: str) -> str:
    """A piece of evidence as a person reads it, by its unit."""
    if isinstance(value, str):
        return value if not unit else f"{value} {unit}"
    forms: dict[str, Callable[[float], str]] = {
        "s": duration,
        "share": percent,
        "bytes": size,
        "bytes/s": bandwidth,
        "FLOP": flops,
        "FLOP/s": flops_rate,
        "count": count,
        "": count,
    }
    if unit.startswith("bytes "):
        return f"{size(value)} {unit.removeprefix('bytes ')}"
    return forms[unit](value) if unit in forms else f"{significant(value)} {unit}"
