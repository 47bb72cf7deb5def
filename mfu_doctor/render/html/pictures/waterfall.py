"""The waterfall as a picture: the step time, then one bar per loss, then the ideal time (calculated by `waterfall`).

Every bar starts where the bar above it ends, because the bars add up to the step time.
"""

from __future__ import annotations

from markupsafe import Markup
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.quantities import duration, percent
from mfu_doctor.render.html.svg import line, paint, picture, rect, tag, text
from mfu_doctor.render.words.text import shorten
from mfu_doctor.result.bottleneck import named
from mfu_doctor.result.report import Report
from mfu_doctor.result.step import IDLE_CAUSES, OTHER_KERNELS, Bar

_LEFT, _RIGHT = 262.0, 842.0  # the plot; names are left of it, numbers right
_ROW = 28.0
_TOP = 30.0
_SMALL = 0.001  # share of the step below which a loss has no row of its own
_KINDS = {
    "achieved": "compute",
    "recompute": "compute-3",
    "matmul": "compute-3",
    OTHER_KERNELS: "compute-2",
    "communication": "communication",
    "memory copy": "memory_copy",
    "data loading": "data_loading",
}


class _Row(Struct, frozen=True):
    """One line of the picture; `start` and `end` are seconds on the step's axis."""

    name: str
    start: float
    end: float
    seconds: float
    kind: str
    modelled: bool = False
    total: bool = False


def draw_waterfall(report: Report, scope: str) -> Markup | None:
    """The picture, or None if the report has no waterfall."""
    step = report.breakdown.step_s or sum(bar.seconds for bar in report.waterfall)
    if not report.waterfall or step <= 0:
        return None
    rows = _rows(report, step)
    height = _TOP + _ROW * len(rows) + 12
    drawn = [_axis(step, height)] + [_draw(row, i, step, scope) for i, row in enumerate(rows)]
    words = ", ".join(f"{row.name} {percent(row.seconds / step)}" for row in rows[1:])
    return picture(
        "Why MFU is below 100 %",
        f"Shares of the step of {duration(step)}: {words}.",
        height,
        *drawn,
        class_="waterfall",
    )


def nothing_lost(report: Report) -> tuple[str, ...]:
    """Names of the bars that are zero. The picture does not have them."""
    return tuple(named(bar.name) for bar in report.waterfall if bar.seconds == 0)


def _rows(report: Report, step: float) -> list[_Row]:
    achieved = [bar for bar in report.waterfall if bar.group == "achieved"]
    losses = [bar for bar in reversed(report.waterfall) if bar.group != "achieved" and bar.seconds]
    rows = [_Row(_peak_name(report), 0.0, step, step, "peak", total=True)]
    left = step
    for bar in losses:
        rows.append(_Row(named(bar.name), left - bar.seconds, left, bar.seconds, _kind(bar), bar.basis == "modelled"))
        left -= bar.seconds
    rows = _gather_small(rows, step)
    rows += [
        _Row(_achieved_name(bar, report, step), 0.0, bar.seconds, bar.seconds, "compute", total=True)
        for bar in achieved
    ]
    return rows


def _gather_small(rows: list[_Row], step: float) -> list[_Row]:
    """Losses that are too small to see become one row, the last one, so that the sum remains exact."""
    small = [row for row in rows if abs(row.seconds) < _SMALL * step]
    if len(small) < 2:
        return rows
    kept = [row for row in rows if row not in small]
    total = sum(row.seconds for row in small)
    out, left = kept[:1], step
    for row in kept[1:]:
        out.append(replace(row, start=left - row.seconds, end=left))
        left -= row.seconds
    name = f"{len(small)} losses under {100 * _SMALL:g} % each"
    return [*out, _Row(name, left - total, left, total, "compute-3")]


def small_ones(report: Report) -> tuple[str, ...]:
    """Names and times of the losses that the picture shows in one row."""
    step = report.breakdown.step_s or sum(bar.seconds for bar in report.waterfall)
    small = [bar for bar in report.waterfall if bar.group != "achieved" and 0 < abs(bar.seconds) < _SMALL * step]
    return tuple(f"{named(bar.name)} {duration(bar.seconds)}" for bar in small) if len(small) > 1 else ()


def _peak_name(report: Report) -> str:
    return "step time (100 %)" if report.device.peak_flops else "step time"


def _achieved_name(bar: Bar, report: Report, step: float) -> str:
    """What the last bar is. MFU is of the step without the profiler, if that is known: then it can be another share."""
    if report.mfu.value is not None and percent(bar.seconds / step) == percent(report.mfu.value):
        return "ideal time (= MFU)"
    timed = report.step_time_s is not None and report.step_time_s.source == "timed"
    return "ideal time of the profiled step" if timed else bar.name


def _kind(bar: Bar) -> str:
    if bar.group in _KINDS:
        return _KINDS[bar.group]
    words = bar.name.replace(" ", "_")
    return next((cause for cause in IDLE_CAUSES if cause in words), "idle")


def _x(seconds: float, step: float) -> float:
    inside = min(max(seconds / step, 0.0), 1.0)
    return _LEFT + inside * (_RIGHT - _LEFT)


def _axis(step: float, height: float) -> Markup:
    """Vertical lines at every fifth of the step time."""
    parts = []
    for tenth in range(0, 11, 2):
        x = _x(step * tenth / 10, step)
        parts.append(line((x, _TOP - 6, x, height - 8), class_="grid"))
        parts.append(text(x, _TOP - 12, f"{tenth * 10} %", text_anchor="middle", class_="tick"))
    return tag("g", *parts)


def _draw(row: _Row, index: int, step: float, scope: str) -> Markup:
    y = _TOP + index * _ROW
    start, end = sorted((_x(row.start, step), _x(row.end, step)))
    share = row.seconds / step
    hint = f"{row.name}: {duration(row.seconds)}, {percent(share)} of the step" + (
        " (modelled)" if row.modelled else ""
    )
    look = {"class_": "outline"} if row.kind == "peak" else paint(row.kind, scope)
    weight = "strong" if row.total else None
    sign = "" if row.total else "+" if share < 0 else "\u2212"  # a negative loss: faster than the peak
    parts = [
        text(_LEFT - 12, y + 16, shorten(row.name, 40, middle=True), text_anchor="end", class_=weight),
        rect(start, y + 2, max(end - start, 1.5), _ROW - 8, hint=hint, **look),
        line((start, y + _ROW - 6, start, y + _ROW + 2), class_="step-line"),
        text(_RIGHT + 66, y + 16, f"{sign}{percent(abs(share))}", text_anchor="end", class_=weight),
        text(998, y + 16, duration(abs(row.seconds)), text_anchor="end", class_="quiet"),
    ]
    if row.modelled:
        parts.insert(2, rect(start, y + 2, max(end - start, 1.5), _ROW - 8, class_="modelled"))
    return tag("g", *parts)
