"""The roofline plot: the FLOP/s of the longest kernels against the limit for their arithmetic intensity.

A kernel under the sloped line is memory-bound. A kernel under the flat line is compute-bound. The distance to the line is the
possible speedup (Williams, Waterman, Patterson 2009).
"""

from __future__ import annotations

import math

from markupsafe import Markup
from msgspec import Struct

from mfu_doctor.analysis.names.short_names import short_name
from mfu_doctor.devices.dtypes import shown_dtype
from mfu_doctor.quantities import counted, duration, flops_rate, peak_rate, percent, significant
from mfu_doctor.render.html.svg import line, paint, picture, tag, text
from mfu_doctor.render.words.text import shorten
from mfu_doctor.result.report import Report
from mfu_doctor.result.run import DeviceInfo
from mfu_doctor.result.step import KernelRow

MOST_POINTS = 40
_CHARACTER = 7.0  # mean width of a character of a name, user units
_NAMED = 6  # points with a name beside them: the ones with most time
_LEFT, _RIGHT, _TOP, _BOTTOM = 104.0, 986.0, 20.0, 318.0
_HEIGHT = 362.0
_FEW_DECADES = 2.5


class _Plane(Struct, frozen=True):
    """Logarithmic axes from (x0, y0) to (x1, y1), as powers of ten."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, intensity: float) -> float:
        return _LEFT + (math.log10(intensity) - self.x0) / (self.x1 - self.x0) * (_RIGHT - _LEFT)

    def y(self, rate: float) -> float:
        return _BOTTOM - (math.log10(rate) - self.y0) / (self.y1 - self.y0) * (_BOTTOM - _TOP)


def plotted(report: Report) -> tuple[KernelRow, ...]:
    """Kernels with both coordinates, most time first."""
    rows = [k for k in report.kernels if k.intensity and k.achieved_flops_s]
    return tuple(sorted(rows, key=lambda k: -k.seconds)[:MOST_POINTS])


def draw_roofline(report: Report, scope: str) -> Markup | None:
    """The plot, or None if no kernel has known FLOPs and bytes, or the peak is not known."""
    rows, peaks = plotted(report), _peaks(report.device)
    if not rows or not peaks:
        return None
    plane = _plane(rows, report.device, max(peaks.values()))
    roofs = [_roof(plane, report.device, name, peak) for name, peak in peaks.items()]
    longest = rows[0].seconds
    points = [_point(plane, row, longest, scope) for row in reversed(rows)]
    names = _names(plane, rows)
    words = "; ".join(_in_words(row) for row in rows[:_NAMED])
    drawn = (_axes(plane), *roofs, *points, *names)
    return picture("Roofline", f"{counted(len(rows), 'kernel')}. {words}.", _HEIGHT, *drawn, class_="roofline")


def _in_words(row: KernelRow) -> str:
    name = shorten(short_name(row.name), 40, middle=True)
    return f"{name}: {flops_rate(row.achieved_flops_s or 0)} at {significant(row.intensity or 0)} FLOP/B"


def _peaks(device: DeviceInfo) -> dict[str, float]:
    """The peaks to draw: the one of MFU, and those of fp32 and tf32 if they differ from it."""
    peaks = {device.dtype or "peak": device.peak_flops} if device.peak_flops else {}
    peaks |= {name: value for name, value in device.peaks.items() if name in ("float32", "fp32", "tf32")}
    return {name: value for name, value in peaks.items() if value}


def _plane(rows: tuple[KernelRow, ...], device: DeviceInfo, peak: float) -> _Plane:
    intensities = [k.intensity for k in rows if k.intensity]
    rates = [k.achieved_flops_s for k in rows if k.achieved_flops_s]
    if device.bandwidth_bytes_s:
        intensities.append(peak / device.bandwidth_bytes_s)
    low, high = math.log10(min(intensities) / 1.6), math.log10(max(intensities) * 1.6)
    return _Plane(low, max(high, low + 1.5), math.log10(min(rates) / 2), math.log10(max(peak, *rates) * 1.6))


def _marks(low: float, high: float) -> list[float]:
    """Powers of ten in the range; if these are few, also 2 and 5 times them."""
    factors = (1, 2, 5) if high - low < _FEW_DECADES else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    marks = [factor * 10.0**power for power in powers for factor in factors]
    return [mark for mark in marks if low <= math.log10(mark) <= high]


def _axes(plane: _Plane) -> Markup:
    parts = []
    for intensity in _marks(plane.x0, plane.x1):
        x = plane.x(intensity)
        parts.append(line((x, _TOP, x, _BOTTOM), class_="grid"))
        parts.append(text(x, _BOTTOM + 18, f"{intensity:g}", text_anchor="middle", class_="tick"))
    for rate in _marks(plane.y0, plane.y1):
        y = plane.y(rate)
        parts.append(line((_LEFT, y, _RIGHT, y), class_="grid"))
        parts.append(text(_LEFT - 8, y + 4, flops_rate(rate, 1), text_anchor="end", class_="tick"))
    middle = (_LEFT + _RIGHT) / 2
    parts.append(
        text(
            middle,
            _BOTTOM + 38,
            "arithmetic intensity, FLOP per byte of memory traffic",
            text_anchor="middle",
            class_="tick",
        )
    )
    return tag("g", *parts)


def _roof(plane: _Plane, device: DeviceInfo, name: str, peak: float) -> Markup:
    """The sloped line of the bandwidth, then the flat line of the peak. If the bandwidth is not known, only the flat line."""
    left = 10.0**plane.x0
    y = plane.y(peak)
    path = f"M{_LEFT} {y:.1f}H{_RIGHT}"
    if device.bandwidth_bytes_s:
        bandwidth = device.bandwidth_bytes_s
        start = max(left, 10.0**plane.y0 / bandwidth)
        path = (
            f"M{plane.x(start):.1f} {plane.y(start * bandwidth):.1f}L{plane.x(peak / bandwidth):.1f} {y:.1f}H{_RIGHT}"
        )
    label = text(_RIGHT - 4, y - 6, f"{shown_dtype(name)} {peak_rate(peak)}", text_anchor="end", class_="tick")
    return tag("path", d=path, class_="roof") + label


def _point(plane: _Plane, row: KernelRow, longest: float, scope: str) -> Markup:
    if not row.intensity or not row.achieved_flops_s:
        return Markup("")
    share = "" if row.peak_share is None else f", {percent(row.peak_share)} of peak"
    name = shorten(short_name(row.name), 90, middle=True)
    hint = f"{name}: {duration(row.seconds)} per step, {flops_rate(row.achieved_flops_s)}{share}"
    look = paint(row.kind, scope)
    x, y = plane.x(row.intensity), plane.y(row.achieved_flops_s)
    return tag(
        "circle", tag("title", hint), cx=x, cy=y, r=_radius(row, longest), class_=f"{look.get('class_', '')} point"
    )


def _names(plane: _Plane, rows: tuple[KernelRow, ...]) -> list[Markup]:
    """Names beside the largest points. A name that would cover a point or another name is only in the tooltip."""
    spots = [
        (plane.x(row.intensity or 1), plane.y(row.achieved_flops_s or 1), _radius(row, rows[0].seconds)) for row in rows
    ]
    taken = [(x - r, y - r, x + r, y + r) for x, y, r in spots]
    out: list[Markup] = []
    for row, (x, y, r) in list(zip(rows, spots, strict=True))[:_NAMED]:
        label = shorten(short_name(row.name), 36, middle=True)
        width = len(label) * _CHARACTER
        candidates = (
            ("start", x + r + 6, y + 4, x + r + 6),
            ("end", x - r - 6, y + 4, x - r - 6 - width),
            ("middle", x, y - r - 7, x - width / 2),
            ("middle", x, y + r + 15, x - width / 2),
        )
        for anchor, at_x, at_y, left in candidates:
            box = (left, at_y - 11, left + width, at_y + 3)
            if box[0] > _LEFT and box[2] < _RIGHT and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                out.append(text(at_x, at_y, label, text_anchor=anchor, class_="halo"))
                break
    return out


_Box = tuple[float, float, float, float]


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _radius(row: KernelRow, longest: float) -> float:
    return 4 + 9 * math.sqrt(row.seconds / longest)
