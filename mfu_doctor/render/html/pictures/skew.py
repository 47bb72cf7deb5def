"""Two pictures of a job: how far apart the ranks come to each collective of a step, and the step of each rank over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import quantiles

from markupsafe import Markup

from mfu_doctor.quantities import counted, duration
from mfu_doctor.render.html.pictures.step import nice_spacing, tick
from mfu_doctor.render.html.svg import WIDTH, line, picture, rect, tag, text
from mfu_doctor.render.words.text import shorten
from mfu_doctor.result.job import Arrival, JobReport, RankRow

MOST_SHOWN = 24  # collectives
_ROW, _LEFT, _RIGHT, _AXIS = 20.0, 210.0, 840.0, 26.0
_CHART, _MARGIN = 220.0, 60.0
_EACH = 64  # ranks that get a line each
_FEWEST = 2


def shown_arrivals(arrivals: Sequence[Arrival]) -> list[tuple[int, Arrival]]:
    """The collectives with the largest skew, in the order of the step, each with its number in it."""
    numbered = [(index, arrival) for index, arrival in enumerate(arrivals, 1) if len(arrival.arrive_s) >= _FEWEST]
    ranked = sorted(numbered, key=lambda entry: -_skew(entry[1]))[:MOST_SHOWN]
    return sorted(ranked, key=lambda entry: entry[0])


def draw_skew(arrivals: Sequence[Arrival]) -> Markup | None:
    """One row a collective: when half of the ranks are there, and how much later the last one comes."""
    rows = shown_arrivals(arrivals)
    widest = max((_skew(arrival) for _, arrival in rows), default=0.0)
    if widest <= 0:
        return None
    scale = (_RIGHT - _LEFT) / widest
    drawn = [_collective(number, arrival, index * _ROW, scale) for index, (number, arrival) in enumerate(rows)]
    bottom = len(rows) * _ROW
    words = f"{counted(len(rows), 'collective')}; the last rank comes up to {duration(widest)} after the first."
    axis = _scale(widest, bottom, scale)
    return picture("Arrival at each collective", words, bottom + _AXIS, axis, *drawn, class_="skew")


def draw_rank_steps(job: JobReport) -> Markup | None:
    """The steps of each rank in order: of few ranks a line each, of many the range and the ranks to look at."""
    rows = [row for row in job.ranks if len(row.steps_s) >= _FEWEST]
    if not rows:
        return None
    longest = max(max(row.steps_s) for row in rows)
    count = max(len(row.steps_s) for row in rows)
    late = {rank for blame in job.blames for rank in blame.ranks}
    single = rows if len(rows) <= _EACH else [row for row in rows if row.rank in late or row.rank == job.typical]
    band = [] if len(rows) <= _EACH else [_band(rows, longest, count)]
    lines = [_line(row, longest, count, is_late=row.rank in late) for row in single]
    words = f"{counted(len(rows), 'rank')}, {counted(count, 'step')}, the longest {duration(longest)}."
    return picture(
        "Step time of each rank", words, _CHART + _AXIS, _grid(longest, count), *band, *lines, class_="rank-steps"
    )


def _skew(arrival: Arrival) -> float:
    return max(arrival.arrive_s, default=0.0) - min(arrival.arrive_s, default=0.0)


def _collective(number: int, arrival: Arrival, top: float, scale: float) -> Markup:
    first = min(arrival.arrive_s)
    late = sorted(time - first for time in arrival.arrive_s)
    middle = quantiles(late, n=4, method="inclusive")
    y = top + _ROW / 2
    name = text(
        _LEFT - 8, y + 4, shorten(f"{number}. {arrival.group} {arrival.kind}", 30), text_anchor="end", class_="lane"
    )
    span = line((_LEFT, y, _LEFT + late[-1] * scale, y), class_="whisker")
    half = rect(
        _LEFT + middle[0] * scale, y - 5, max((middle[2] - middle[0]) * scale, 1.5), 10, class_="k-communication"
    )
    last = tag("circle", cx=_LEFT + late[-1] * scale, cy=y, r=4.5, class_="late")
    words = text(
        _LEFT + late[-1] * scale + 9, y + 4, f"rank {arrival.last_rank}, {duration(late[-1], 2)}", class_="quiet"
    )
    return tag("g", name, span, half, last, words)


def _scale(widest: float, bottom: float, scale: float) -> Markup:
    spacing = nice_spacing(widest, 5)
    marks = [index * spacing for index in range(int(widest / spacing) + 1)]
    lines = [line((_LEFT + at * scale, 0, _LEFT + at * scale, bottom + 4), class_="grid") for at in marks]
    names = [text(_LEFT + at * scale, bottom + 19, tick(at), text_anchor="middle", class_="tick") for at in marks]
    return tag("g", *lines, *names)


def _x(index: int, count: int) -> float:
    return _MARGIN + index / max(count - 1, 1) * (WIDTH - _MARGIN - 90)


def _y(seconds: float, longest: float) -> float:
    return _CHART - seconds / longest * (_CHART - 12)


def _line(row: RankRow, longest: float, count: int, *, is_late: bool) -> Markup:
    points = " ".join(f"{_x(i, count):.1f},{_y(value, longest):.1f}" for i, value in enumerate(row.steps_s))
    hint = tag("title", f"rank {row.rank}: {duration(min(row.steps_s))} to {duration(max(row.steps_s))}")
    drawn = tag("polyline", hint, points=points, class_="rank-line is-late" if is_late else "rank-line")
    if not is_late:
        return drawn
    last = len(row.steps_s) - 1
    name = text(_x(last, count) + 6, _y(row.steps_s[-1], longest) + 4, f"rank {row.rank}", class_="lane")
    return tag("g", drawn, name)


def _band(rows: Sequence[RankRow], longest: float, count: int) -> Markup:
    """From the shortest to the longest step of any rank."""
    at = [[row.steps_s[i] for row in rows if i < len(row.steps_s)] for i in range(count)]
    upper = [f"{_x(i, count):.1f},{_y(max(values), longest):.1f}" for i, values in enumerate(at)]
    lower = [f"{_x(i, count):.1f},{_y(min(values), longest):.1f}" for i, values in enumerate(at)]
    return tag("polygon", points=" ".join([*upper, *reversed(lower)]), class_="area")


def _grid(longest: float, count: int) -> Markup:
    spacing = nice_spacing(longest, 4)
    parts = []
    for index in range(int(longest / spacing) + 1):
        y = _y(index * spacing, longest)
        parts += [line((_MARGIN, y, WIDTH - 90, y), class_="grid")]
        parts += [text(_MARGIN - 8, y + 4, tick(index * spacing), text_anchor="end", class_="tick")]
    every = max(count // 12, 1)
    parts += [
        text(_x(i, count), _CHART + 19, f"{i + 1}", text_anchor="middle", class_="tick") for i in range(0, count, every)
    ]
    return tag("g", *parts)
