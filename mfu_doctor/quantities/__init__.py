"""How quantities read, in every sentence and on every screen: one function for each kind, with its rounding.

What was measured has three significant digits (412 ms, 12.4 GB/s), what is predicted has two (74-88 ms; see `parts`), and a
figure that is compared with a limit has up to four. A percentage has one decimal in a table and is whole from 10 % on in a
sentence; below 1 % it has two significant digits. Rates and FLOP have SI units, sizes of memory binary ones.

Arguments are seconds, bytes, FLOP and fractions of one. The analysis counts in nanoseconds: `time_of` and `span_of` take those
and are the only place where they are converted to be printed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mfu_doctor.units import GIGA, KILO, MEGA, NS_PER_S, PETA, TERA

COMPARED_DIGITS = 4  # at most, of a figure that is compared with a limit
SMALLEST_PERCENT = 0.01  # smaller ones have no meaning that their digits would carry
SMALLEST_TIME_S = 0.5e-9  # what rounds to no nanosecond, the clock of traces
TOO_SMALL = 1e-4  # of a peak: a rate below would start with zeros in the peak's unit
KIB = 2.0**10

_Units = Sequence[tuple[float, str]]  # size and name, largest first

_TIMES: _Units = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_SIZES: _Units = ((KIB**3, "GiB"), (KIB**2, "MiB"), (KIB, "KiB"), (1.0, "B"))
_PREFIXES: _Units = ((PETA, "P"), (TERA, "T"), (GIGA, "G"), (MEGA, "M"), (KILO, "k"), (1.0, ""))
_COUNTED = (
    "count",
    "per step",
    "cores",
    "processes",
    "MHz",
    "C",
    "",
)  # units of evidence that reads as a number of things


def significant(value: float, digits: int = 3) -> str:
    """The value rounded to so many significant digits, without exponent: 0.0523, 31.4, 9,410."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(digits - 1 - math.floor(math.log10(abs(rounded))), 0)
    return f"{rounded:,.{decimals}f}"


def number(value: float, digits: int = 3) -> str:
    """A count or an average of counts: 9,412 or 2.5; whole from `digits` digits on, and what differs from nothing is not 0."""
    if 0 < abs(value) < 0.05:
        return significant(value, 1)
    is_whole = abs(value) >= 10 ** (digits - 1) or abs(value - round(value)) < 0.05
    return f"{value:,.0f}" if is_whole else f"{value:,.1f}"


def signed_number(value: float) -> str:
    """A difference of two counts: +1, -0.5, +12,345."""
    size = abs(value)
    text = f"{size:,.0f}" if size >= KILO else _trimmed(significant(size, COMPARED_DIGITS))
    return f"{'-' if value < 0 else '+'}{text}"


def counted(value: float, noun: str) -> str:
    """A count with its noun: 1 copy, 2.5 copies."""
    if number(value) == "1":
        return f"1 {noun}"
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith(("ch", "sh", "s")) else "s")
    return f"{number(value)} {plural}"


def first_of(count: int, noun: str) -> str:
    """The first so many of something: "first steady step", "first 3 steady steps"."""
    return f"first {noun}" if count == 1 else f"first {counted(count, noun)}"


def duration(seconds: float, digits: int = 3) -> str:
    """A time with its unit: 412 ms, 1.23 s, 85.0 us."""
    if abs(seconds) < SMALLEST_TIME_S:
        return "0 ms"
    scale, unit = time_unit(seconds, digits)
    return f"{significant(seconds / scale, digits)} {unit}"


def time_of(nanoseconds: float) -> str:
    """A time that the analysis counted: see `duration`."""
    return duration(nanoseconds / NS_PER_S)


def duration_range(low: float, high: float, digits: int = 2, dash: str = "-") -> str:
    """A predicted range in one unit: 74-88 ms; one number if both ends round to it."""
    widest = max(abs(low), abs(high))
    if widest < SMALLEST_TIME_S:
        return "0 ms"
    scale, unit = time_unit(widest, digits)
    return f"{ends_of(low / scale, high / scale, (digits, digits), dash)} {unit}"


def span_of(low_ns: float, high_ns: float) -> str:
    """A predicted range that the analysis counted: see `duration_range`."""
    return duration_range(low_ns / NS_PER_S, high_ns / NS_PER_S)


def time_spread(deviation: float, middle: float, digits: int = 3) -> str:
    """A deviation in the unit of what it belongs to: 3.1 ms beside 412 ms, 0.40 ms beside 52.3 ms."""
    scale, unit = time_unit(middle, digits)
    return f"{significant(deviation / scale, 2)} {unit}"


def time_unit(seconds: float, digits: int = 3) -> tuple[float, str]:
    """The unit in which a time reads as 1 to 999, after rounding to the digits shown: its size in seconds and its name."""
    return _unit_of(seconds, _TIMES, digits)


def percent(fraction: float, decimals: int = 1) -> str:
    """A fraction as a percentage with equal decimals, for tables and headlines: 31.4 %, 0.52 %, <0.01 %."""
    value = fraction * 100
    if 0 < value < SMALLEST_PERCENT:
        return f"<{SMALLEST_PERCENT} %"
    if value != 0 and abs(value) < 1:
        return f"{significant(value, 2)} %"
    return f"{value:.{decimals}f} %"


def share(part: float, whole: float) -> str:
    """A part of a whole in a sentence: 21 %, 3.2 %, 0.52 %; nothing if there is no whole."""
    fraction = part / whole if whole else 0.0
    is_small = 0 < abs(round(fraction * 100, 1)) < 10
    return percent(fraction, 1 if is_small else 0)


def percent_range(low: float, high: float, digits: int = 2, dash: str = "-") -> str:
    """A predicted range of fractions as percentages: 38-40 %."""
    if 0 < high * 100 < SMALLEST_PERCENT:
        return f"<{SMALLEST_PERCENT} %"
    return f"{ends_of(low * 100, high * 100, (digits, digits), dash)} %"


def ends_of(low: float, high: float, digits: tuple[int, int], dash: str) -> str:
    """Two ends of a range with so many digits each; the smaller one has at most one decimal more than the larger one."""
    large = significant(*max(zip((abs(low), abs(high)), digits, strict=True)))
    decimals = len(large.partition(".")[2]) + 1
    ends = []
    for end, shown in zip((low, high), digits, strict=True):
        own, short = significant(end, shown), round(end, decimals)
        fits = len(own.partition(".")[2]) <= decimals
        ends.append(own if fits else f"{short:.{decimals}f}" if short else "0")
    return ends[0] if ends[0] == ends[1] else dash.join(ends)


def signed_percent(fraction: float) -> str:
    """A relative change: +8.6 %, -0.4 %; never "-0.0"."""
    value = round(fraction * 100, 1) or 0.0
    return f"{value:+.1f} %"


def points(difference: float) -> str:
    """A difference of two percentages: -2.5 points."""
    value = round(difference * 100, 1) or 0.0
    return f"{value:+.1f} points"


def flop_count(value: float) -> str:
    """A number of floating-point operations: 128 TFLOP."""
    scale, prefix = _unit_of(value, _PREFIXES, 3)
    return f"{_scaled(value, scale, 3)} {prefix}FLOP"


def flops_rate(value: float, digits: int = 3) -> str:
    """A rate that was reached: 311 TFLOP/s."""
    scale, unit = _rate_unit(value, digits)
    return f"{_scaled(value, scale, digits)} {unit}"


def peak_rate(value: float) -> str:
    """A peak as datasheets print it: 989.5 TFLOP/s, 125 TFLOP/s, 1,979 TFLOP/s."""
    scale, unit = _rate_unit(value, 4)
    return f"{_trimmed(significant(value / scale, 4))} {unit}"


def flops_of_peak(achieved: float, peak: float) -> str:
    """Both rates in the peak's unit: 311 of 989.5 TFLOP/s; a rate too small for it keeps its own."""
    scale, _ = _rate_unit(peak, 4)
    reached = flops_rate(achieved) if achieved < peak * TOO_SMALL else significant(achieved / scale)
    return f"{reached} of {peak_rate(peak)}"


def size_of(n_bytes: float) -> str:
    """A number of bytes: 74.2 MiB, 512 B."""
    scale, unit = _unit_of(n_bytes, _SIZES, 3)
    return f"{_scaled(n_bytes, scale, 3)} {unit}"


def bandwidth(bytes_per_second: float, digits: int = 3) -> str:
    """A rate of bytes in decimal units, as links, memories and disks are sold: 12.4 GB/s, 3.35 TB/s."""
    scale, prefix = _unit_of(bytes_per_second, _PREFIXES, digits)
    return f"{_scaled(bytes_per_second, scale, digits)} {prefix}B/s"


def measure(value: float | str, unit: str) -> str:
    """A piece of evidence by the name of its unit: s, share, count, bytes/s, "bytes per step", ...; a text stands for itself."""
    if isinstance(value, str):
        return f"{value} {unit}".rstrip()
    if unit in _COUNTED:
        return f"{number(value)} {unit.removeprefix('count')}".rstrip()
    if unit.startswith("bytes "):
        return f"{size_of(value)} {unit.removeprefix('bytes ')}"
    forms: dict[str, Callable[[float], str]] = {"s": duration, "share": percent, "bytes": size_of, "bytes/s": bandwidth}
    forms |= {"FLOP": flop_count, "FLOP/s": flops_rate}
    return forms[unit](value) if unit in forms else f"{significant(value)} {unit}"


def figure(value: float | None, unit: str) -> str:
    """A figure that is compared with a limit, or the limit, by the name of its unit: 447.6 ms, 300 ms, 28.9 %, 9,412.

    Up to four digits: with three, 447.6 ms and a limit of 447.5 ms would read alike.
    """
    if value is None:
        return "unknown"
    if unit == "share":
        return percent(value)
    if unit != "s" or abs(value) < SMALLEST_TIME_S:
        return number(value, COMPARED_DIGITS) if unit != "s" else duration(value)
    scale, name = time_unit(value, COMPARED_DIGITS)
    return f"{_trimmed(significant(value / scale, COMPARED_DIGITS))} {name}"


def figure_beside(value: float | None, limit: float | None, unit: str) -> str:
    """A figure beside its limit: with as many digits as it takes to tell that it is another one, 10.02 % beside 10.0 %."""
    text = figure(value, unit)
    if value is None or limit is None or text != figure(limit, unit):
        return text
    scale, name = (0.01, "%") if unit == "share" else time_unit(value, COMPARED_DIGITS) if unit == "s" else (1.0, "")
    texts = (
        (significant(value / scale, digits), significant(limit / scale, digits))
        for digits in range(COMPARED_DIGITS, 18)
    )
    return next((f"{own} {name}".rstrip() for own, other in texts if own != other), text)


def change_of(change: float | None, unit: str) -> str:
    """A change by the name of the unit: relative for seconds (+8.6 %), else a difference (+6.5 points, +1)."""
    if change is None:
        return ""
    return {"s": signed_percent, "share": points}.get(unit, signed_number)(change)


def spread_of(spread: float, middle: float, unit: str) -> str:
    """A deviation as a number in the unit in which what it belongs to is printed: 2.0 beside 447.6 ms, 0.3 beside 28.9 %."""
    if unit == "share":
        return f"{100 * spread:.1f}"
    if unit == "s":
        return time_spread(spread, middle, COMPARED_DIGITS).partition(" ")[0]
    return significant(spread, 2)


def _unit_of(value: float, units: _Units, digits: int) -> tuple[float, str]:
    """The largest unit in which the value, rounded to the digits shown, is at least one; else the smallest."""
    return next((unit for unit in units if float(f"{abs(value) / unit[0]:.{digits - 1}e}") >= 1), units[-1])


def _rate_unit(value: float, digits: int) -> tuple[float, str]:
    """The unit of a rate. Those up to 9999 stay in tera, as datasheets print them."""
    scale, prefix = (TERA, "T") if TERA <= abs(value) < 10 * PETA else _unit_of(value, _PREFIXES, digits)
    return scale, f"{prefix}FLOP/s"


def _scaled(value: float, scale: float, digits: int) -> str:
    """Parts of a byte or of an operation are not shown."""
    return f"{value:,.0f}" if scale == 1.0 else significant(value / scale, digits)


def _trimmed(text: str) -> str:
    """Without zeros at the end of the decimals."""
    return text.rstrip("0").rstrip(".") if "." in text else text
