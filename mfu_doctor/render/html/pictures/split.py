"""The step time breakdown as stacked bars: one thick bar for the headline, one thin bar for each recorded step."""

from __future__ import annotations

from markupsafe import Markup

from mfu_doctor.quantities import counted, duration, percent
from mfu_doctor.render.html.svg import BUCKET_NAMES, WIDTH, paint, picture, rect, tag, text
from mfu_doctor.result.bottleneck import named
from mfu_doctor.result.step import BUCKETS, IDLE_CAUSES, Breakdown, StepRow

MOST_ROWS = 24
_ROW = 22.0
_LEFT, _RIGHT = 92.0, 862.0


def draw_split(split: Breakdown, scope: str) -> Markup:
    """The bar of the headline: the buckets of the mean step, with idle time by cause."""
    parts, x = [], 0.0
    for kind, seconds, name in pieces(split):
        width = seconds / split.step_s * WIDTH
        parts.append(
            rect(x, 0, max(width - 1.5, 0.5), 26, hint=_hint(name, seconds, split.step_s), **paint(kind, scope))
        )
        x += width
    words = ", ".join(f"{BUCKET_NAMES[bucket]} {percent(split.share(bucket))}" for bucket in BUCKETS)
    return picture("Step time breakdown", f"{words}.", 26, *parts, class_="split", preserveAspectRatio="none")


def draw_steps(rows: tuple[StepRow, ...], scope: str) -> Markup:
    """Stacked bars of the recorded steps (at most `MOST_ROWS`, see `rows_shown`) on one axis."""
    longest = max(row.split.step_s for row in rows)
    drawn = [_bar(row, index, longest, scope) for index, row in enumerate(rows)]
    words = f"{counted(len(rows), 'step')}, from {duration(min(r.split.step_s for r in rows))} to {duration(longest)}."
    return picture("Every recorded step", words, _ROW * len(rows) + 4, *drawn, class_="steps")


def rows_shown(rows: tuple[StepRow, ...]) -> tuple[StepRow, ...]:
    """The steps to draw. If there are too many, every n-th one, and always the shortest and the longest."""
    if len(rows) <= MOST_ROWS:
        return rows
    by_length = sorted(range(len(rows)), key=lambda i: rows[i].split.step_s)
    even = {round(i * (len(rows) - 1) / (MOST_ROWS - 3)) for i in range(MOST_ROWS - 2)}
    return tuple(rows[i] for i in sorted(even | {by_length[0], by_length[-1]}))


def pieces(split: Breakdown) -> list[tuple[str, float, str]]:
    """The parts of a step as (kind, seconds, name): four buckets, then idle time by cause, then the rest of it."""
    parts = [(bucket, float(getattr(split, bucket)), BUCKET_NAMES[bucket]) for bucket in BUCKETS if bucket != "idle"]
    causes = [(cause, split.idle_causes.get(cause, 0.0), f"idle, {named(cause)}") for cause in IDLE_CAUSES]
    unexplained = split.idle - sum(seconds for _, seconds, _ in causes)
    if unexplained > 1e-9:
        causes.append(("idle", unexplained, "idle"))
    return [part for part in parts + causes if part[1] > 0]


def _bar(row: StepRow, index: int, longest: float, scope: str) -> Markup:
    y, x, scale = index * _ROW, _LEFT, (_RIGHT - _LEFT) / longest
    parts = [text(_LEFT - 10, y + 15, f"step {row.number}", text_anchor="end", class_=None if row.steady else "quiet")]
    for kind, seconds, name in pieces(row.split):
        width = seconds * scale
        hint = _hint(name, seconds, row.split.step_s)
        parts.append(rect(x, y + 3, max(width - 0.8, 0.3), _ROW - 6, hint=hint, **paint(kind, scope)))
        x += width
    words = duration(row.split.step_s) + ("" if row.steady else f", {row.left_out or 'not used'}")
    parts.append(text(x + 8, y + 15, words, class_="quiet"))
    return tag("g", *parts)


def _hint(name: str, seconds: float, step_s: float) -> str:
    return f"{name}: {duration(seconds)}, {percent(seconds / step_s if step_s else 0.0)}"
