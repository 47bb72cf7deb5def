"""Ranks x time of one step as a heat map: who computes, who communicates, who waits, and the collectives as lines across ranks.

Many ranks are drawn in groups: a row is then a host, or a place along a parallel dimension, and shows at each moment what most of
its ranks do. Ranks that others wait for keep rows of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup
from msgspec import Struct

from mfu_doctor.quantities import duration
from mfu_doctor.render.html.pictures.step import nice_spacing, tick
from mfu_doctor.render.html.svg import WIDTH, line, picture, rect, tag, text
from mfu_doctor.render.words.text import shorten
from mfu_doctor.result.job import Arrival, JobReport, RankRow, RankStrip

ALONE = 64  # ranks that get a row each
MOST_ROWS = 128
WAIT = "wait"
KINDS = ("compute", "communication", WAIT, "memory_copy", "data_loading", "idle")
NAMES = {
    "compute": "computing",
    "communication": "communication",
    WAIT: "waiting for other ranks",
    "memory_copy": "memory copy",
    "data_loading": "data loading",
    "idle": "idle",
}
_TALL, _LOW = 16.0, 7.0  # rows: of few ranks, of many
_TOP = 5.0  # room for the name of the first low row
_LEFT, _RIGHT = 112.0, WIDTH - 8.0
_AXIS, _TICKS, _NAME = 26.0, 8, 16
_BINS = 220  # moments at which a group is looked at
_LINES = 40  # collectives drawn, those with the largest skew
_THIN = 0.35  # narrower parts are seen only because they are this wide


class Row(Struct, frozen=True):
    """A row of the map: its name, its ranks, and (begin, end, kind) over the step."""

    name: str
    ranks: tuple[int, ...]
    parts: tuple[tuple[float, float, str], ...]
    hint: str = ""


class _Place(Struct, frozen=True):
    """Where a row is drawn."""

    top: float
    height: float

    @property
    def middle(self) -> float:
        return self.top + self.height / 2


class Map(Struct, frozen=True):
    """One map and what its rows are."""

    title: str
    drawn: Markup
    rows: int


def maps_of(job: JobReport) -> tuple[Map, ...]:
    """The maps of the drawn step: one of all ranks, or of many ranks one by host and one by each parallel dimension."""
    if not job.strips:
        return ()
    span = max((end for strip in job.strips for _, end, _ in strip.parts), default=0.0)
    if span <= 0:
        return ()
    found = {row.rank: row for row in job.ranks}
    if len(job.strips) <= ALONE:
        rows = [_alone(strip, found.get(strip.rank)) for strip in job.strips]
        return (Map("Every rank", _draw(rows, span, job.arrivals), len(rows)),)
    late = {rank for blame in job.blames for rank in blame.ranks[:4]}
    own = [_alone(strip, found.get(strip.rank)) for strip in job.strips if strip.rank in late][:8]
    made = []
    for title, groups in _groupings(job):
        rows = own + [_together(name, strips, span) for name, strips in groups]
        made.append(Map(title, _draw(rows, span, job.arrivals), len(rows)))
    return tuple(made)


def kind_of(owner: str) -> str:
    """What a part of a strip is drawn as."""
    name = owner.partition(":")[0]
    return name if name in KINDS else "idle"


def paint_of(kind: str) -> str:
    """The class that gives a kind its colour."""
    return f"k-{kind}"


def _groupings(job: JobReport) -> list[tuple[str, list[tuple[str, list[RankStrip]]]]]:
    """Ways to put ranks together: by host, by each dimension; if nothing tells, so many neighbours."""
    strips = {strip.rank: strip for strip in job.strips}
    ways: list[tuple[str, dict[int, str]]] = []
    hosts = {row.rank: row.host for row in job.ranks if row.host is not None and row.rank in strips}
    if len(set(hosts.values())) > 1:
        ways.append(("By host", hosts))
    for dimension in dict.fromkeys(name for row in job.ranks for name in row.group):
        places = {row.rank: f"{dimension} {row.group[dimension]}" for row in job.ranks if dimension in row.group}
        if len(set(places.values())) > 1:
            ways.append((f"By {dimension}", places))
    fitting = [way for way in ways if len(set(way[1].values())) <= MOST_ROWS]
    if not fitting:
        size = -(-len(strips) // MOST_ROWS)
        order = {rank: index // size for index, rank in enumerate(sorted(strips))}
        members = {index: [rank for rank in order if order[rank] == index] for index in set(order.values())}
        names = {index: f"ranks {ranks[0]}-{ranks[-1]}" for index, ranks in members.items()}
        fitting = [(f"{size} neighbours a row", {rank: names[i] for rank, i in order.items()})]
    return [(title, _grouped(names, strips)) for title, names in fitting]


def _grouped(names: dict[int, str], strips: dict[int, RankStrip]) -> list[tuple[str, list[RankStrip]]]:
    groups: dict[str, list[RankStrip]] = {}
    for rank in sorted(names):
        if rank in strips:
            groups.setdefault(names[rank], []).append(strips[rank])
    return list(groups.items())


def _alone(strip: RankStrip, row: RankRow | None) -> Row:
    wait = "" if row is None or row.wait_s is None else f", waits {duration(row.wait_s)} a step"
    late = "" if row is None or not row.waited_for_s else f", others wait {duration(row.waited_for_s)} for it"
    parts = tuple((begin, end, kind_of(owner)) for begin, end, owner in strip.parts)
    return Row(f"rank {strip.rank}", (strip.rank,), parts, f"rank {strip.rank}{wait}{late}")


def _together(name: str, strips: Sequence[RankStrip], span: float) -> Row:
    """A row of several ranks: at each moment what most of them do."""
    counts = [Counter[str]() for _ in range(_BINS)]
    for strip in strips:
        for begin, end, owner in strip.parts:
            kind = kind_of(owner)
            for index in range(int(begin / span * _BINS), min(int(end / span * _BINS) + 1, _BINS)):
                left, right = index * span / _BINS, (index + 1) * span / _BINS
                counts[index][kind] += max(round(1000 * (min(end, right) - max(begin, left)) * _BINS / span), 0)
    parts: list[tuple[float, float, str]] = []
    for index, count in enumerate(counts):
        kind = max(KINDS, key=lambda kind: count[kind]) if count else "idle"
        begin, end = index * span / _BINS, (index + 1) * span / _BINS
        if parts and parts[-1][2] == kind:
            parts[-1] = (parts[-1][0], end, kind)
        else:
            parts.append((begin, end, kind))
    ranks = tuple(strip.rank for strip in strips)
    return Row(name, ranks, tuple(parts), f"{name}: ranks {ranks[0]} to {ranks[-1]}, {len(ranks)} of them")


def _draw(rows: Sequence[Row], span: float, arrivals: Sequence[Arrival]) -> Markup:
    """Rows of single ranks are tall, those of many groups low."""
    low = _TALL if len(rows) <= ALONE else _LOW
    heights = [_TALL if len(row.ranks) == 1 else low for row in rows]
    tops = [_TOP + sum(heights[:index]) for index in range(len(rows) + 1)]
    scale = (_RIGHT - _LEFT) / span
    places = [_Place(top, height) for top, height in zip(tops, heights, strict=False)]
    drawn = [
        _row(row, place, scale, is_named=place.height == _TALL or index % 2 == 0)  # low rows have room for every second
        for index, (row, place) in enumerate(zip(rows, places, strict=True))
    ]
    lines = [_collective(arrival, rows, places, scale) for arrival in _most_skewed(arrivals)]
    words = f"{len(rows)} rows over {duration(span)}; {len(lines)} collectives as lines."
    return picture(
        "Ranks over one step", words, tops[-1] + _AXIS, _axis(span, tops[-1]), *drawn, *lines, class_="ranks"
    )


def _row(row: Row, place: _Place, scale: float, *, is_named: bool) -> Markup:
    paths: dict[str, list[str]] = {}
    top, height = place.top + 0.5, place.height - 1
    for begin, end, kind in row.parts:
        width = max((end - begin) * scale, _THIN)
        paths.setdefault(kind, []).append(f"M{_LEFT + begin * scale:.1f} {top:g}h{width:.1f}v{height:g}h-{width:.1f}z")
    drawn = [tag("path", d="".join(d), class_=paint_of(kind)) for kind, d in paths.items()]
    words = shorten(row.name, _NAME) if is_named else ""
    name = text(_LEFT - 6, place.middle + 4, words, text_anchor="end", class_="lane")
    return tag("g", name, *drawn, rect(0, place.top, _RIGHT, place.height, hint=row.hint, fill="transparent"))


def _most_skewed(arrivals: Sequence[Arrival]) -> list[Arrival]:
    ranked = sorted(
        arrivals, key=lambda arrival: min(arrival.arrive_s, default=0.0) - max(arrival.arrive_s, default=0.0)
    )
    return [arrival for arrival in ranked[:_LINES] if arrival.arrive_s]


def _collective(arrival: Arrival, rows: Sequence[Row], places: Sequence[_Place], scale: float) -> Markup:
    """A line through the arrivals of a collective (of a group its last one), and one at its end."""
    came = dict(zip(arrival.ranks, arrival.arrive_s, strict=True))
    points = []
    for row, place in zip(rows, places, strict=True):
        times = [came[rank] for rank in row.ranks if rank in came]
        if times:
            points.append((max(_LEFT + max(times) * scale, _LEFT), place))
    if not points:
        return Markup("")
    path = "M" + "L".join(f"{x:.1f} {place.middle:g}" for x, place in points)
    hint = tag("title", f"{arrival.group} {arrival.kind}: rank {arrival.last_rank} comes last")
    end, first, last = _LEFT + arrival.end_s * scale, points[0][1], points[-1][1]
    ended = line((end, first.top, end, last.top + last.height), class_="ended")
    return tag("g", tag("path", hint, d=path, class_="arrivals"), ended if end <= _RIGHT else Markup(""))


def _axis(span: float, bottom: float) -> Markup:
    spacing = nice_spacing(span, _TICKS)
    parts = []
    for index in range(int(span / spacing) + 1):
        x = _LEFT + index * spacing / span * (_RIGHT - _LEFT)
        anchor = "end" if x > WIDTH - 20 else "middle"
        parts.append(line((x, 0, x, bottom + 4), class_="grid"))
        parts.append(text(x, bottom + 19, tick(index * spacing), text_anchor=anchor, class_="tick"))
    return tag("g", *parts)
