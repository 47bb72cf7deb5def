"""The replay of a rank reduced to its collectives: when it reaches each, given when those before it ended.

The recurrence of the replay knows only sums and maxima. So instead of a time, this walk carries along for each node the longest
delay since each collective that leads to it: the arrival at a collective is then the latest of a few earlier ends plus delays.
Collectives that computation hides all stay such sources, since a late peer could bring them to light. So before a node has more
sources than a few, those that meet in it become relays: sources of their own.

One thing is not of this form: which of two copies has the link first. Here they have it in the order of the recorded replay.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.replay.busiest import Busy, busy
from mfu_doctor.analysis.replay.model import Boundary, Timeline
from mfu_doctor.analysis.replay.walk import Walk
from mfu_doctor.job.rank.collectives import Found
from mfu_doctor.job.summary import Floats, Ints, Reach

BEGIN = -1  # a source: the zero of the timeline
_MOST_SOURCES = 4  # of a node
_WINDOW = 512  # points that a cover is looked for among: a source that is not found to be needless costs time, no more
_NEVER = float("-inf")

Delays: TypeAlias = dict[int, float]
"""Longest delay to a node from each point that leads to it, or from `BEGIN`."""


class Base:
    """What the nodes of a stretch without forks have in common; the point that stands for it once it has become a relay."""

    __slots__ = ("delays", "relay")

    def __init__(self, delays: Delays) -> None:
        self.delays = delays  # of a relay, one of nothing since itself
        self.relay: int | None = None


When: TypeAlias = tuple[Base, float]
"""A node's time: so much after its base."""


class Place(Struct, frozen=True):
    """Where the collectives are in a timeline."""

    position: Ints  # of the operation (CPU-only: of the call) of each, -1 if it is outside of the timeline; shape (n,)
    on_device: bool


class Scale(Struct, frozen=True):
    """What the times of a replay are."""

    origin: int  # unix nanoseconds of its zero
    second_ns: float  # nanoseconds of it in a second of the run
    edge: Ints  # edges of its steps as recorded, from its zero


def place_collectives(timeline: Timeline, found: Found, row: Ints) -> Place:
    """Find the collectives in a timeline.

    Args:
        timeline: as recorded.
        found: the collectives.
        row: event row of each entry of the activity table.
    """
    on_device = len(timeline.operations.entry) > 0
    of = timeline.operations.entry if on_device else timeline.calls.row
    wanted = found.entry if on_device else row[found.entry]
    at = {key: i for i, key in enumerate(of.tolist())}
    return Place(np.array([at.get(key, -1) for key in wanted.tolist()], np.int64), on_device)


def reach_of(timeline: Timeline, place: Place, found: Found, scale: Scale) -> Reach:
    """The replay of a timeline, as recorded or with edits made, in terms of its collectives.

    Args:
        timeline: what is replayed.
        place: where its collectives are.
        found: the collectives.
        scale: what its times are.
    """
    columns = found.collectives
    zero = int(timeline.calls.start.min(initial=0 if not len(timeline.calls.start) else timeline.calls.start[0]))
    walk = _Linear(timeline, place)
    steps = [walk.point(walk.edge(boundary)) for boundary in timeline.boundaries]
    listed = [sorted((s, d) for s, d in point.items() if s != BEGIN) for point in walk.points]
    inside = place.position >= 0
    lasts = (columns.end - columns.arrive).astype(np.float64)
    recorded = timeline.operations.duration if place.on_device else timeline.calls.cost
    lasts[inside] = recorded[place.position[inside]]
    return Reach(
        since_ns=_earliest(walk.points) - zero,
        pointer=np.cumsum([0, *(len(sources) for sources in listed)], dtype=np.int64),
        source=np.array([s for sources in listed for s, _ in sources], np.int64),
        delay_ns=np.array([d for sources in listed for _, d in sources], np.float64),
        collective=np.array(walk.collective, np.int64),
        step=np.array(steps, np.int64),
        inside=inside,
        lasts_ns=lasts,
        weight=timeline.weight or (1,) * (len(steps) - 1),
        measured_ns=timeline.measured_ns,
        second_ns=scale.second_ns,
        begin=scale.origin + zero,
        edge=scale.edge + scale.origin,
        busy=_busy(timeline, place),
    )


def _busy(timeline: Timeline, place: Place) -> Busy | None:
    """What the streams do without the collectives; those that are not replayed take none of their time."""
    if not place.on_device:
        return None
    inside = np.flatnonzero(place.position >= 0)
    found = busy(timeline, place.position[inside])
    stream, often = np.zeros(len(place.position), np.int64), np.zeros(len(place.position))
    stream[inside], often[inside] = found.stream, found.often
    return replace(found, stream=stream, often=often)


def _earliest(points: list[Delays]) -> Floats:
    """When each point is reached if no collective takes any time."""
    at: list[float] = []
    for point in points:
        at.append(max(delay + (0.0 if s == BEGIN else at[s]) for s, delay in point.items()))
    return np.array(at)


class _Recorded(Walk):
    """The replay in numbers, which notes what each copy waited for on the link."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.holder = dict.fromkeys(self.link_busy, -1)
        self.behind: dict[int, int] = {}

    def _on_link(self, k: int, at: float) -> float:
        way = self._way(k)
        before = self.link_busy[way]
        begin = super()._on_link(k, at)
        if begin > at:
            self.behind[k] = self.holder[way]
        if self.link_busy[way] != before:
            self.holder[way] = k
        return begin


class _Linear(Walk):
    """The same replay in delays since points: `points` are in order, `collective` says which collective each is (-1: none)."""

    def __init__(self, timeline: Timeline, place: Place) -> None:
        recorded = _Recorded(timeline)
        if any(recorded.link):
            recorded.run()
            links = tuple((k, j, 0.0) for k, j in recorded.behind.items())
            ops = replace(timeline.operations, waits=(*timeline.operations.waits, *links))
            timeline = replace(timeline, operations=ops)
        super().__init__(timeline)
        at = {p: i for i, p in enumerate(place.position.tolist()) if p >= 0}
        self.as_op, self.as_call = (at, {}) if place.on_device else ({}, at)
        self.points: list[Delays] = []
        self.ways: list[Floats] = []
        self.listed: list[list[float]] = []  # the same, for single ones are read sooner from a list
        self.collective: list[int] = []
        zero = Base({BEGIN: 0.0})
        self.zero, self.never = zero, (zero, _NEVER)
        self.begins: list[When] = []
        self.returns: list[When] = []
        self.starts: list[When] = []
        self.ends: list[When] = []
        self.busy = [self.never] * len(self.free)  # of each stream, when all that it has been given is done
        drained = {boundary.call for boundary in timeline.boundaries if boundary.drained}
        self.busy_after: dict[int, tuple[When, ...]] = {}
        self._queue(0, self.first_op[1], None, self.never)
        for i in range(len(self.start)):
            self._call(i)
            if i in drained:
                self.busy_after[i] = tuple(self.busy)

    def _call(self, i: int) -> None:
        previous, mine = self.after[i], self.own[i]
        begin = (self.zero, float(self.start[i])) if previous < 0 else _plus(self.returns[previous], self.gap[i])
        if mine >= 0 and mine != previous:
            begin = self._latest(begin, self.returns[mine])
        if i in self.paced:
            begin = self._latest(begin, _plus(self.begins[self.paced[i][0]], self.paced[i][1]))
        self.begins.append(begin)
        end = self._over(self.as_call.get(i), begin, self.cost[i])
        end = self._queue(self.first_op[i + 1], self.first_op[i + 2], begin, end)
        for k in self.call_waits.get(i, ()):
            end = self._latest(end, _plus(self.ends[k], self.tail[i]))
        self.returns.append(end)

    def _queue(self, first: int, last: int, begin: When | None, end: When) -> When:
        """Queue operations: those of a call, or (without its begin) those from before the trace; returns when the call ends."""
        for k in range(first, last):
            s = self.stream[k]
            issued = (self.zero, float(self.recorded_start[k])) if begin is None else _plus(begin, self.latency[k])
            at = self._latest(issued, _plus(self.busy[s], self.op_gap[k]))
            for j, delay in self.op_waits.get(k, ()) if begin is not None else ():
                at = self._latest(at, _plus(self.ends[j], delay))
            done = self._over(self.as_op.get(k), at, self.duration[k])
            self.starts.append(at)
            self.ends.append(done)
            later = self.op_gap[k] + (0.0 if k in self.as_op else self.duration[k]) >= 0.0  # as nearly always
            self.busy[s] = done if later else self._latest(done, self.busy[s])
            if begin is not None and self.full_behind[k] >= 0:
                end = self._latest(end, self.starts[self.full_behind[k]])
        return end

    def _over(self, collective: int | None, begin: When, takes: float) -> When:
        """When it is over: a collective when that ends, anything else so much later."""
        return _plus(begin, takes) if collective is None else (Base({self.point(begin, collective): 0.0}), 0.0)

    def point(self, at: When, collective: int = -1) -> int:
        """Make a point of a node."""
        self.points.append(_since(at))
        self.collective.append(collective)
        self.ways.append(self._ways_to(len(self.points) - 1))
        self.listed.append(self.ways[-1].tolist())
        return len(self.points) - 1

    def _ways_to(self, point: int) -> Floats:
        """Longest delay to a point from each of the `_WINDOW` before it, if no collective between took any time."""
        ways = np.full(_WINDOW, _NEVER)
        for source, delay in self.points[point].items():
            back = point - source
            if source != BEGIN and back <= _WINDOW:
                np.maximum(ways[:-back], self.ways[source][back:] + delay, out=ways[:-back])
                ways[-back] = max(ways[-back], delay)
        return ways

    def _latest(self, a: When, b: When) -> When:
        """The later of two."""
        if a[0] is b[0]:
            return a if a[1] >= b[1] else b
        other = self._uncovered(b, a[0].delays, a[1])
        if not other:
            return a
        mine = self._uncovered(a, other, 0.0)
        if not mine:
            return b
        if len(mine.keys() | other.keys()) > _MOST_SOURCES:
            mine, other = self._relayed(a), self._relayed(b)
        return Base(other | mine), 0.0

    def _uncovered(self, at: When, covering: Delays, later: float) -> Delays:
        """The delays to a node but for those never longer than others, so much later, even if what lies between took no time."""
        found: Delays = {}
        for source, since in at[0].delays.items():
            delay = since + at[1]
            if delay <= covering.get(source, _NEVER) + later:
                continue
            for s, least in covering.items() if source != BEGIN else ():
                if 0 < s - source <= _WINDOW and delay <= self.listed[s][source - s] + (least + later):
                    break
            else:
                found[source] = delay
        return found

    def _relayed(self, at: When) -> Delays:
        base = at[0]
        if base.relay is None and len(base.delays) > 1:
            base.relay = self.point((base, 0.0))
            base.delays = {base.relay: 0.0}
        return _since(at)

    def edge(self, boundary: Boundary) -> When:
        """When a step begins or the last one ends."""
        if boundary.operation >= 0:
            return self.starts[boundary.operation]
        if boundary.call < 0:
            return self._all(self.busy)
        at = self.returns[boundary.call]
        return self._latest(at, self._all(self.busy_after[boundary.call])) if boundary.drained else at

    def _all(self, ends: Iterable[When]) -> When:
        at = self.never
        for end in ends:
            at = self._latest(at, end)
        return at


def _plus(at: When, more: float) -> When:
    return at[0], at[1] + more


def _since(at: When) -> Delays:
    """The delays to a node."""
    return {source: delay + at[1] for source, delay in at[0].delays.items()}
