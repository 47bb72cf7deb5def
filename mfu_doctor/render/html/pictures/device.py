"""Readings of the device over the run as sparklines, each with what it measures, and when the device held itself back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from markupsafe import Markup

from mfu_doctor.facts import DeviceSamples
from mfu_doctor.quantities import percent, significant
from mfu_doctor.render.html.svg import WIDTH, picture, rect, tag, text
from mfu_doctor.units import GIGA, NS_PER_S

MOST_POINTS = 240  # of a sparkline: finer than its pixels
_WIDTH, _HEIGHT = 300.0, 56.0
_STRIP_LEFT, _STRIP_WIDTH = 220.0, 640.0

# Bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h, nvmlClocksEventReason*): name, what it means. Idle (bit 0) is no loss.
REASONS = {
    0x2: ("application clocks", "clocks were fixed by setting"),
    0x4: ("software power cap", "the power limit was reached"),
    0x8: ("hardware slowdown", "temperature or power forced half clocks"),
    0x10: ("sync boost", "clocks follow other devices"),
    0x20: ("software thermal slowdown", "the device or its memory was too hot"),
    0x40: ("hardware thermal slowdown", "the device was far too hot"),
    0x80: ("power brake", "the machine asked for less power"),
    0x100: ("display clocks", "clocks follow the display"),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """A reading that gets a sparkline."""

    field: str
    name: str
    meaning: str
    unit: str
    scale: float = 1.0  # what one shown unit is in the stored unit


@dataclass(frozen=True, slots=True)
class Sparkline:
    """One drawn reading with its summary in words."""

    name: str
    meaning: str
    summary: str
    drawn: Markup


METRICS = (
    Metric(
        "util_gpu", "busy (NVML)", "share of time in which any kernel ran, however small: not a measure of use", "%"
    ),
    Metric("sm_active", "SM active", "share of the device's processors with work, mean over time (GPM)", "%"),
    Metric("tensor_active", "tensor cores active", "share of time that tensor pipes were in use (GPM)", "%"),
    Metric("dram_active", "memory active", "share of time that device memory was being moved (GPM)", "%"),
    Metric("sm_mhz", "SM clock", "clock of the processors; peaks are stated at the boost clock", "MHz"),
    Metric("power_w", "power", "of the whole board", "W"),
    Metric("temperature_c", "temperature", "of the processor", "\u00b0C"),
    Metric("memory_used_bytes", "memory in use", "by all processes on the device", "GB", GIGA),
)


def sparklines(samples: DeviceSamples) -> tuple[Sparkline, ...]:
    """A sparkline for each reading that was measured at least twice."""
    out = []
    for metric in METRICS:
        values = tuple(None if v is None else v / metric.scale for v in getattr(samples, metric.field))
        known = [v for v in values if v is not None]
        if len(known) >= 2:
            out.append(_sparkline(metric, values, known, _ceiling(metric, samples)))
    return tuple(out)


def reasons_strip(samples: DeviceSamples) -> Markup | None:
    """When the device held its clocks back: one row per reason that occurred, or None where none did."""
    found = reasons_seen(samples)
    if not found:
        return None
    rows, count = [], len(samples.event_reasons)
    for index, (bit, name, share) in enumerate(found):
        y = index * 22.0
        rows.append(text(_STRIP_LEFT - 12, y + 14, name, text_anchor="end"))
        rows.append(rect(_STRIP_LEFT, y + 3, _STRIP_WIDTH, 14, class_="lane-ground"))
        for first, last in _runs([bool((mask or 0) & bit) for mask in samples.event_reasons]):
            x, width = _STRIP_LEFT + first / count * _STRIP_WIDTH, (last - first) / count * _STRIP_WIDTH
            rows.append(rect(x, y + 3, width, 14, hint=REASONS[bit][1], class_="held"))
        rows.append(text(WIDTH - 2, y + 14, f"{percent(share)} of readings", text_anchor="end", class_="quiet"))
    words = ", ".join(f"{name} in {percent(share)} of the readings" for _, name, share in found)
    return picture("Held back", f"{words}.", 22.0 * len(found), *rows, class_="steps")


def reasons_seen(samples: DeviceSamples) -> tuple[tuple[int, str, float], ...]:
    """Reasons that lowered the clocks as (bit, name, share of the samples), commonest first."""
    masks = [mask for mask in samples.event_reasons if mask is not None]
    shares = [(bit, REASONS[bit][0], sum(bool(mask & bit) for mask in masks) / len(masks)) for bit in REASONS if masks]
    return tuple(sorted((row for row in shares if row[2] > 0), key=lambda row: -row[2]))


def span_s(samples: DeviceSamples) -> float:
    """Seconds from the first to the last sample."""
    return (samples.time_ns[-1] - samples.time_ns[0]) / NS_PER_S if len(samples.time_ns) > 1 else 0.0


def _ceiling(metric: Metric, samples: DeviceSamples) -> float | None:
    """The value that the reading cannot exceed, drawn as a dashed line."""
    if metric.unit == "%":
        return 100.0
    if metric.field == "sm_mhz":
        return samples.max_sm_mhz
    if metric.field == "power_w":
        return samples.power_limit_w
    if metric.field == "memory_used_bytes" and samples.memory_total_bytes:
        return samples.memory_total_bytes / GIGA
    return None


def _sparkline(
    metric: Metric, values: tuple[float | None, ...], known: list[float], ceiling: float | None
) -> Sparkline:
    ordered = sorted(known)
    low, middle, high = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    summary = f"median {significant(middle)} {metric.unit}, {significant(low)} to {significant(high)}"
    if ceiling is not None and metric.unit != "%":
        summary += f", limit {significant(ceiling)}"
    top = max(high, ceiling or high) * 1.04 or 1.0
    parts = [tag("line", x1=0, x2=_WIDTH, y1=_y(0, top), y2=_y(0, top), class_="grid")]
    if ceiling is not None:
        parts.append(tag("line", x1=0, x2=_WIDTH, y1=_y(ceiling, top), y2=_y(ceiling, top), class_="limit"))
    parts.append(tag("path", d=_path(_thin(values), top), class_="spark"))
    drawn = picture(
        metric.name, f"{metric.meaning}; {summary}.", _HEIGHT, *parts, width=int(_WIDTH), class_="sparkline"
    )
    return Sparkline(metric.name, metric.meaning, summary, drawn)


def _y(value: float, top: float) -> float:
    return _HEIGHT - 3 - (_HEIGHT - 6) * value / top


def _thin(values: tuple[float | None, ...]) -> list[float | None]:
    """At most `MOST_POINTS` values: means of equal stretches, None where a stretch has no reading."""
    if len(values) <= MOST_POINTS:
        return list(values)
    edges = [round(i * len(values) / MOST_POINTS) for i in range(MOST_POINTS + 1)]
    stretches = ([v for v in values[a:b] if v is not None] for a, b in itertools.pairwise(edges))
    return [sum(stretch) / len(stretch) if stretch else None for stretch in stretches]


def _path(values: list[float | None], top: float) -> str:
    """A line with a gap wherever a reading is missing."""
    step, out, pen_down = _WIDTH / max(len(values) - 1, 1), [], False
    for index, value in enumerate(values):
        if value is not None:
            out.append(f"{'L' if pen_down else 'M'}{index * step:.1f} {_y(value, top):.1f}")
        pen_down = value is not None
    return "".join(out)


def _runs(flags: list[bool]) -> list[tuple[int, int]]:
    """Half-open index ranges in which the flag is set."""
    edges = [i for i, (a, b) in enumerate(zip([False, *flags], [*flags, False], strict=True)) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))
