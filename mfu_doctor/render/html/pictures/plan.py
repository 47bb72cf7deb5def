"""The predicted step time as a curve: after fix 1, after fixes 1 and 2, and so on, with the lower bound of the step."""

from __future__ import annotations

import itertools

from markupsafe import Markup

from mfu_doctor.quantities import percent, percent_range
from mfu_doctor.quantities.parts import part_alone
from mfu_doctor.render.html.pictures.step import nice_spacing, tick
from mfu_doctor.render.html.svg import WIDTH, line, picture, tag, text
from mfu_doctor.render.words.plan import lower_bound, steps_after
from mfu_doctor.render.words.text import shorten
from mfu_doctor.result.findings import Plan
from mfu_doctor.result.report import Report

MOST_POINTS = 8
_TOP, _BOTTOM, _HEIGHT = 34.0, 214.0, 262.0
_LEFT, _RIGHT = 70.0, 960.0


def draw_plan(report: Report) -> Markup | None:
    """The curve, or None if the plan is empty."""
    plan = report.plan
    if not plan.steps or report.step_s <= 0:
        return None
    times = [report.step_s, *steps_after(report)[:MOST_POINTS]]
    top = max(times) * 1.02
    shares = [report.mfu.value, *(step.mfu for step in plan.steps[:MOST_POINTS])]
    names = ["now", *(step.rule for step in plan.steps[:MOST_POINTS])]
    spots = [(_x(i, len(times)), _y(t, top)) for i, t in enumerate(times)]
    drawn = [_axis(top), _curve(spots), *_roofline(plan, top)]
    shown = [part_alone(t, times[0]) for t in times]
    drawn += [_point(spot, (names[i], shown[i], shares[i]), i) for i, spot in enumerate(spots)]
    words = "; ".join(f"{name}: {told}" for name, told in zip(names, shown, strict=True))
    return picture("Predicted step time, fix by fix", f"Predicted step time. {words}.", _HEIGHT, *drawn, class_="plan")


def _x(index: int, points: int) -> float:
    return _LEFT + 50 + index * (_RIGHT - _LEFT - 100) / max(points - 1, 1)


def _y(seconds: float, top: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * seconds / top


def _axis(top: float) -> Markup:
    spacing = nice_spacing(top, 4)
    parts = []
    for index in range(int(top / spacing) + 1):
        y = _y(index * spacing, top)
        parts.append(line((_LEFT, y, WIDTH - 2, y), class_="grid"))
        parts.append(text(_LEFT - 8, y + 4, tick(index * spacing), text_anchor="end", class_="tick"))
    return tag("g", *parts)


def _curve(spots: list[tuple[float, float]]) -> Markup:
    """A step curve that goes down at each fix."""
    path = f"M{spots[0][0]:.1f} {spots[0][1]:.1f}"
    for (x0, _), (x1, y1) in itertools.pairwise(spots):
        path += f"H{(x0 + x1) / 2:.1f}V{y1:.1f}H{x1:.1f}"
    area = f"{path}V{_BOTTOM}H{spots[0][0]:.1f}Z"
    return tag("path", d=area, class_="area") + tag("path", d=path, class_="curve")


def _point(spot: tuple[float, float], values: tuple[str, str, float | None], index: int) -> Markup:
    (x, y), (name, shown, share) = spot, values
    mfu = "" if share is None else percent(share) if index == 0 else percent_range(share, share)
    hint = tag("title", f"{name}: {shown}" + (f", MFU {mfu}" if mfu else ""))
    label = name if index == 0 else f"{index}. {name}"
    parts = [
        tag("circle", hint, cx=x, cy=y, r=5, class_="dot"),
        text(x, y - 11, shown, text_anchor="middle", class_="strong"),
        text(x, _BOTTOM + 19, shorten(label, 24, middle=True), text_anchor="middle"),
    ]
    if mfu:
        parts.append(text(x, _BOTTOM + 36, f"MFU {mfu}", text_anchor="middle", class_="quiet"))
    return tag("g", *parts)


def _roofline(plan: Plan, top: float) -> list[Markup]:
    if plan.roofline_s is None:
        return []
    y = _y(plan.roofline_s, top)
    words = lower_bound(plan.roofline_s)
    return [
        line((_LEFT, y, WIDTH - 2, y), class_="limit"),
        text(
            _LEFT + 8, y + 14 if y < _BOTTOM - 18 else y - 5, words, text_anchor="start", class_="tick"
        ),  # points go right
    ]
