"""Device samples over the run as sparklines, each with its meaning, and the times of throttling."""

from __future__ import annotations

import itertools

from markupsafe import Markup
from msgspec import Struct

from mfu_doctor.facts import DeviceSamples
from mfu_doctor.quantities import percent, significant
from mfu_doctor.render.html.svg import WIDTH, picture, rect, tag, text
from mfu_doctor.units import GIGA, NS_PER_S

MOST_POINTS = 240  # of a sparkline: finer than its pixels
_WIDTH, _HEIGHT = 300.0, 56.0
_STRIP_LEFT, _STRIP_WIDTH = 220.0, 640.0

# Bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h, nvmlClocksEventReason*): name, meaning. Idle (bit 0) is not a loss.
REASONS = {
    0x2: ("application clocks", "clocks were set by the user (application clocks)"),
    0x4: ("software power cap", "the power limit was reached"),
    0x8: ("hardware slowdown", "clocks were at most half, because of temperature or power brake"),
    0x10: ("sync boost", "clocks were matched to those of other GPUs"),
    0x20: ("software thermal slowdown", "the GPU or its memory was above its software temperature limit"),
    0x40: ("hardware thermal slowdown", "the GPU was above its hardware temperature limit"),
    0x80: ("power brake", "an external signal limited the power"),
    0x100: ("display clocks", "clocks were limited by the display setting"),
}


class Metric(Struct, frozen=True):
    """A measurement that gets a sparkline."""

    field: str
    name: str
    meaning: str
    unit: str
    scale: float = 1.0  # what one shown unit is in the stored unit


class Sparkline(Struct, frozen=True):
    """One drawn measurement with its summary in words."""

    name: str
    meaning: str
    summary: str
    drawn: Markup


METRICS = (
    Metric(
        "util_gpu",
        "busy (NVML)",
        "share of time with at least one kernel; it does not show how much of the GPU is used",
        "%",
    ),
    Metric("sm_active", "SM active", "mean share of SMs with at least one warp (GPM)", "%"),
    Metric("tensor_active", "tensor cores active", "share of time in which the tensor cores were in use (GPM)", "%"),
    Metric("dram_active", "memory active", "share of time in which device memory was read or written (GPM)", "%"),
    Metric("sm_mhz", "SM clock", "clock of the SMs; peaks are those at the boost clock", "MHz"),
    Metric("power_w", "power", "power of the whole board", "W"),
    Metric("temperature_c", "temperature", "temperature of the GPU", "\u00b0C"),
    Metric("memory_used_bytes", "memory in use", "memory used by all processes on the device", "GB", GIGA),
)


def sparklines(samples: DeviceSamples) -> tuple[Sparkline, ...]:
    """A sparkline for each measurement with at least two samples."""
    out = []
    for metric in METRICS:
        values = tuple(None if v is None else v / metric.scale for v in getattr(samples, metric.field))
        known = [v for v in values if v is not None]
        if len(known) >= 2:
            out.append(_sparkline(metric, values, known, _ceiling(metric, samples)))
    return tuple(out)


def reasons_strip(samples: DeviceSamples) -> Markup | None:
    """When the device was throttled: one row per reason that occurred, or None if there was none."""
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
        rows.append(text(WIDTH - 2, y + 14, f"{percent(share)} of samples", text_anchor="end", class_="quiet"))
    words = ", ".join(f"{name} in {percent(share)} of the samples" for _, name, share in found)
    return picture("Throttling", f"{words}.", 22.0 * len(found), *rows, class_="steps")


def reasons_seen(samples: DeviceSamples) -> tuple[tuple[int, str, float], ...]:
    """Reasons for lower clocks as (bit, name, share of the samples), the most frequent first."""
    masks = [mask for mask in samples.event_reasons if mask is not None]
    shares = [(bit, REASONS[bit][0], sum(bool(mask & bit) for mask in masks) / len(masks)) for bit in REASONS if masks]
    return tuple(sorted((row for row in shares if row[2] > 0), key=lambda row: -row[2]))


def span_s(samples: DeviceSamples) -> float:
    """Seconds from the first to the last sample."""
    return (samples.time_ns[-1] - samples.time_ns[0]) / NS_PER_S if len(samples.time_ns) > 1 else 0.0


def _ceiling(metric: Metric, samples: DeviceSamples) -> float | None:
    """The upper limit of the measurement, drawn as a dashed line."""
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
    """At most `MOST_POINTS` values: means of intervals of equal length, None if an interval has no sample."""
    if len(values) <= MOST_POINTS:
        return list(values)
    edges = [round(i * len(values) / MOST_POINTS) for i in range(MOST_POINTS + 1)]
    stretches = ([v for v in values[a:b] if v is not None] for a, b in itertools.pairwise(edges))
    return [sum(stretch) / len(stretch) if stretch else None for stretch in stretches]


def _path(values: list[float | None], top: float) -> str:
    """A line with a gap for each missing sample."""
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
