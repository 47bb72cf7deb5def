"""The recurrence of a replay: when each host call returns and each device operation starts and ends.

A plain loop over host calls with everything prepared as lists: about half a microsecond per call, linear, and easier to trust
than a vectorised running maximum between blocking points. `walk_core` is the same loop, compiled, where that is built.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.replay.model import NO_LINK, TO_HOST, Boundary, Timeline
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.compiled import WALK, core

Floats = npt.NDArray[np.float64]

_LONG_AGO = float("-inf")


def walk(timeline: Timeline, *, by_completion: bool = False) -> float:
    """Run the timeline; returns the mean time of its steps in nanoseconds.

    Args:
        timeline: as recorded or edited.
        by_completion: measure from when all work issued before a step is done, not from its first operation's start. An edit
            can let a step's first operation run ahead (a copy on its own stream); the step is not over sooner for that.
    """
    walked = walked_in_core(timeline) or walked_in_python(timeline)
    edges = [_edge(timeline, b, walked, by_completion) for b in timeline.boundaries]
    weight = timeline.weight or (1,) * (len(edges) - 1)
    return sum((b - a) * often for (a, b), often in zip(pairwise(edges), weight, strict=True)) / sum(weight)


class Walked(Struct, frozen=True):
    """When each call returned, shape (m,), and each operation started and ended, shape (k,), in nanoseconds."""

    call_end: Floats
    op_start: Floats
    op_end: Floats


def walked_in_core(timeline: Timeline) -> Walked | None:
    """The timeline walked by the compiled core; None if that is not in use."""
    compiled = core(WALK)
    if compiled is None:
        return None
    streams = int(timeline.operations.stream.max(initial=-1)) + 1
    times = compiled.run(timeline.calls, timeline.operations, streams, timeline.queue_limit, timeline.two_way)
    return Walked(*map(np.asarray, times))


def walked_in_python(timeline: Timeline) -> Walked:
    """The same walked by Python."""
    return Walked(*map(np.array, Walk(timeline).run()))


def _edge(timeline: Timeline, boundary: Boundary, walked: Walked, by_completion: bool) -> float:
    if boundary.operation >= 0:
        if by_completion and boundary.operation > 0:
            return float(walked.op_end[: boundary.operation].max())
        return float(walked.op_start[boundary.operation])
    if boundary.call < 0:
        return float(walked.op_end.max())
    at = float(walked.call_end[boundary.call])
    if boundary.drained:
        issued = np.searchsorted(timeline.operations.call, boundary.call, side="right")
        at = float(walked.op_end[:issued].max(initial=at))
    return at


class Walk:
    """Lists of one timeline, ready for the loop, and the state of its device."""

    def __init__(self, timeline: Timeline) -> None:
        calls, ops = timeline.calls, timeline.operations
        self.start = calls.start.tolist()
        self.after, self.own = calls.after.tolist(), calls.own.tolist()
        self.gap, self.cost, self.tail = calls.gap.tolist(), calls.cost.tolist(), calls.tail.tolist()
        self.call_waits = dict(timeline.calls.waits)
        self.paced = {d.call: (d.previous, d.after_ns) for d in calls.deliveries}
        self.first_op = np.searchsorted(ops.call, np.arange(-1, len(self.start) + 1), side="left").tolist()
        streams, stream = np.unique(ops.stream, return_inverse=True)
        self.stream = stream.tolist()
        self.duration, self.latency, self.op_gap = ops.duration.tolist(), ops.latency.tolist(), ops.gap.tolist()
        self.recorded_start = ops.start.tolist()
        self.full_behind = _full_behind(stream, timeline.queue_limit).tolist()
        self.op_waits: dict[int, list[tuple[int, float]]] = {}
        for k, j, delay in ops.waits:
            self.op_waits.setdefault(k, []).append((j, delay))
        self.link = ops.link.tolist()
        self.two_way = timeline.two_way
        self.link_busy = {NO_LINK: (_LONG_AGO, _LONG_AGO), TO_HOST: (_LONG_AGO, _LONG_AGO)}
        self.op_start, self.op_end = [0.0] * len(self.stream), [0.0] * len(self.stream)
        self.free = [_LONG_AGO] * len(streams)

    def run(self) -> tuple[list[float], list[float], list[float]]:
        """Walk all calls; returns ends of calls, starts and ends of operations."""
        gap, cost, start, first = self.gap, self.cost, self.start, self.first_op
        call_waits, op_waits, full_behind = self.call_waits, self.op_waits, self.full_behind
        stream, duration, latency, op_gap, link = self.stream, self.duration, self.latency, self.op_gap, self.link
        op_start, op_end, free = self.op_start, self.op_end, self.free
        call_begin, call_end, paced = [0.0] * len(start), [0.0] * len(start), self.paced
        self._before_the_trace(first[1])
        for i, (previous, mine) in enumerate(zip(self.after, self.own, strict=True)):
            begin = call_end[previous] + gap[i] if previous >= 0 else float(start[i])
            if mine >= 0 and call_end[mine] > begin:
                begin = call_end[mine]
            if i in paced:  # a batch that is not there yet
                begin = max(begin, call_begin[paced[i][0]] + paced[i][1])
            call_begin[i] = begin
            end = begin + cost[i]
            for k in range(first[i + 1], first[i + 2]):
                s = stream[k]
                at, ready = begin + latency[k], free[s] + op_gap[k]
                if ready > at:
                    at = ready
                if k in op_waits:
                    at = max(at, *(op_end[j] + delay for j, delay in op_waits[k]))
                if link[k]:
                    at = self._on_link(k, at)
                op_start[k] = at
                op_end[k] = done = at + duration[k]
                if done > free[s]:
                    free[s] = done
                if full_behind[k] >= 0 and op_start[full_behind[k]] > end:  # the queue is full: the call blocks
                    end = op_start[full_behind[k]]
            if i in call_waits:
                end = max(end, max(op_end[k] for k in call_waits[i]) + self.tail[i])
            call_end[i] = end
        return call_end, op_start, op_end

    def _on_link(self, k: int, at: float) -> float:
        """When a copy can start that is ready at `at`: not while another one uses its link. It then uses the link itself."""
        way = self._way(k)
        begun, free = self.link_busy[way]
        if not self.duration[k]:
            return at  # an edit has removed it
        if at < free and at + self.duration[k] > begun:
            at = free
        if at + self.duration[k] > free:
            self.link_busy[way] = (at, at + self.duration[k])
        return at

    def _way(self, k: int) -> int:
        """Which way of the link a copy uses, if it has two."""
        return TO_HOST if self.two_way and self.link[k] == TO_HOST else NO_LINK

    def _before_the_trace(self, count: int) -> None:
        """Queue the operations that were issued before the trace began: not before each was seen to start."""
        for k in range(count):
            s = self.stream[k]
            at = max(self.free[s] + self.op_gap[k], float(self.recorded_start[k]))
            self.op_start[k], self.op_end[k] = at, at + self.duration[k]
            self.free[s] = self.op_end[k]


def _full_behind(stream: npt.NDArray[np.int64], limit: int) -> npt.NDArray[np.int64]:
    """For each operation the one that must have started before its call can return: `limit` before it on its stream, else -1."""
    behind = np.full(len(stream), -1, np.int64)
    for _, mine in groups(stream):
        behind[mine[limit:]] = mine[: max(len(mine) - limit, 0)]
    return behind
