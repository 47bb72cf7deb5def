"""Replay: simulate the recorded timeline again, unchanged or with a problem removed, and read the new step time.

The same simulation serves every rule. A fix that is not on the critical path saves nothing, and fixes can be combined. The
unchanged replay must reproduce the recorded run; its error is part of every report. The method follows Daydream (Zhu et al.,
USENIX ATC 2020) and Lumos (Liang et al., MLSys 2025), reduced to what decides a training step: issue order, stream order,
waits and blocking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.replay.edit_timeline import apply
from mfu_doctor.analysis.replay.edits import Change, Edit
from mfu_doctor.analysis.replay.model import NO_LINK, TO_HOST, Boundary, Timeline
from mfu_doctor.analysis.views.activity import Activity
from mfu_doctor.quantities import percent, signed_percent

WIDEN_ABOVE = 0.03  # replay errors above this widen predictions by as much
WITHHOLD_ABOVE = 0.10  # above this, predictions are not given at all
_LONG_AGO = float("-inf")


@dataclass(frozen=True, slots=True)
class Price:
    """Savings of a change in nanoseconds per step of the trace, low to high; each at least 0."""

    low_ns: float
    mid_ns: float
    high_ns: float

    def within(self, most_ns: float) -> Price:
        """The same, none of them above `most_ns`."""
        return Price(*(min(ns, most_ns) for ns in (self.low_ns, self.mid_ns, self.high_ns)))


class Replay:
    """A run that can be run again.

    Args:
        recorded: the timeline as recorded.
        row_of_entry: event row of each Activity entry, shape (n,).
        timeline: what edits are applied to, where it differs (the profiler's own time taken out).
        slowdown: how many times as long as without a profiler, and with a core for each thread, that timeline's step is
            (1: as long, or not known).

    Attributes:
        recorded: the timeline as recorded.
        recorded_ns: mean of the replayed steps as recorded.
        measured_ns: the same without the profiler's time if that is known; what savings are relative to.
        base_ns: mean of the replayed steps without edits.
        model_ns: the same from the model's delays alone, without each operation's own recorded delay.
        released_ns: the same if nothing held the device's work but what the trace tells.
    """

    def __init__(
        self,
        recorded: Timeline,
        row_of_entry: npt.NDArray[np.int64],
        timeline: Timeline | None = None,
        *,
        slowdown: float = 1.0,
    ) -> None:
        self._slowdown = slowdown
        self.recorded = recorded
        self.timeline = timeline or recorded
        self._row_of_entry = row_of_entry
        self._walked: dict[
            tuple[int, ...], tuple[tuple[Edit, ...], float]
        ] = {}  # the edits are held so that ids stay theirs
        self.recorded_ns = recorded.measured_ns
        self.measured_ns = self.timeline.measured_ns
        self.base_ns = walk(self.timeline)
        self.model_ns = walk(replace(recorded, operations=recorded.modelled))
        self.released_ns = walk(replace(recorded, operations=recorded.released))

    @property
    def error(self) -> float:
        """Signed relative error of the unchanged replay: of the model alone, not of the recording replayed to itself."""
        return self.model_ns / self.recorded_ns - 1.0

    @property
    def unexplained(self) -> float:
        """Share of the step in which work is queued and held by what the trace does not show: the replay only repeats it."""
        return max(self.model_ns - self.released_ns, 0.0) / self.recorded_ns

    @property
    def tested(self) -> bool:
        """Whether the error says anything: a host-only timeline has nothing but recorded delays and repeats itself."""
        return len(self.timeline.operations.entry) > 0

    @property
    def distrust(self) -> str | None:
        """Why predictions may not be given, or None if they may."""
        if self.timeline.without_calls:
            return "the trace has no launch calls, so host waits are unknown: record with ProfilerActivity.CPU"
        return self.doubt(WITHHOLD_ABOVE)

    def doubt(self, above: float) -> str | None:
        """Why predictions can be off by more than this share of the step, or None if nothing says so."""
        if max(abs(self.error), self.unexplained) <= above:
            return None
        if self.unexplained > abs(self.error):
            return f"for {percent(self.unexplained)} of the step queued work is held by what this trace does not show"
        return f"the replay of the unchanged run differs from the measured step by {signed_percent(self.error)}"

    @property
    def trusted(self) -> bool:
        """Whether predictions may be given."""
        return self.distrust is None

    @property
    def widening(self) -> float:
        """Fraction by which a prediction's ends move apart because the replay itself is off."""
        unsure = max(abs(self.error), self.unexplained)
        return unsure if unsure > WIDEN_ABOVE else 0.0

    def unrecorded_ns(self, activity: Activity) -> npt.NDArray[np.float64]:
        """What each entry of the activity table takes if nothing records it, in nanoseconds, shape (n,).

        A fix that leaves a part of what an operator takes must leave a part of this: the replay starts from it too. On a GPU
        and outside of the replayed steps it is the recorded time.
        """
        length = (activity.end - activity.start).astype(np.float64)
        if activity.is_device:
            return length
        return length * self._unrecorded_share(int(activity.row.max(initial=0)) + 1)[activity.row]

    def _unrecorded_share(self, rows: int) -> npt.NDArray[np.float64]:
        """For each event row (of so many) what its calls take without recording, over what they took; 1 outside of the replay."""
        mine = np.flatnonzero(self.timeline.calls.row >= 0)
        row = self.timeline.calls.row[mine]
        took = np.bincount(row, self.recorded.calls.cost[mine], minlength=rows)
        takes = np.bincount(row, self.timeline.calls.cost[mine], minlength=rows) / self._slowdown
        share: npt.NDArray[np.float64] = np.divide(takes, took, out=np.ones(rows), where=took > 0)
        return share

    def step_ns(self, edits: Sequence[Edit]) -> float:
        """Mean step with these edits, in nanoseconds of the recorded run (the replay's own bias taken out)."""
        if not edits:
            return self.measured_ns
        key = tuple(id(edit) for edit in edits)
        if key not in self._walked:  # a plan asks again for what was priced alone
            self._walked[key] = (tuple(edits), self._replayed(edits))
        return self._walked[key][1]

    def _replayed(self, edits: Sequence[Edit]) -> float:
        changed = apply(self.timeline, edits, self._row_of_entry, self._slowdown)
        if self._runs_ahead(changed):
            after, before = walk(changed, by_completion=True), walk(self.timeline, by_completion=True)
        else:
            after, before = walk(changed), self.base_ns
        return after * self.measured_ns / before

    def _runs_ahead(self, changed: Timeline) -> bool:
        """Whether an edit moved an operation that begins a step to a stream of its own."""
        begins = [b.operation for b in changed.boundaries if b.operation >= 0]
        return bool((changed.operations.stream[begins] != self.timeline.operations.stream[begins]).any())

    def price(self, change: Change) -> Price:
        """What a change saves per step at its three ends, ordered and never below zero."""
        ends = (change.low, change.mid, change.high)
        low, mid, high = sorted(max(self.measured_ns - self.step_ns(edits), 0.0) for edits in ends)
        return Price(low * (1 - self.widening), mid, min(high * (1 + self.widening), self.measured_ns))


def walk(timeline: Timeline, *, by_completion: bool = False) -> float:
    """Run the timeline; returns the mean time of its steps in nanoseconds.

    A plain loop over host calls with everything prepared as lists: about half a microsecond per call, linear, and easier to
    trust than a vectorised running maximum between blocking points.

    Args:
        timeline: as recorded or edited.
        by_completion: measure from when all work issued before a step is done, not from its first operation's start. An edit
            can let a step's first operation run ahead (a copy on its own stream); the step is not over sooner for that.
    """
    call_end, op_start, op_end = _Walk(timeline).run()
    edges = [_edge(timeline, b, call_end, (op_start, op_end), by_completion) for b in timeline.boundaries]
    weight = timeline.weight or (1,) * (len(edges) - 1)
    return sum((b - a) * often for (a, b), often in zip(pairwise(edges), weight, strict=True)) / sum(weight)


def _edge(
    timeline: Timeline,
    boundary: Boundary,
    call_end: list[float],
    operations: tuple[list[float], list[float]],
    by_completion: bool,
) -> float:
    op_start, op_end = operations
    if boundary.operation >= 0:
        if by_completion and boundary.operation > 0:
            return max(op_end[: boundary.operation])
        return op_start[boundary.operation]
    if boundary.call < 0:
        return max(op_end)
    at = call_end[boundary.call]
    if boundary.drained:
        issued = np.searchsorted(timeline.operations.call, boundary.call, side="right")
        at = max(at, max(op_end[:issued], default=at))
    return at


class _Walk:
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
        way = TO_HOST if self.two_way and self.link[k] == TO_HOST else NO_LINK
        begun, free = self.link_busy[way]
        if not self.duration[k]:
            return at  # an edit has removed it
        if at < free and at + self.duration[k] > begun:
            at = free
        if at + self.duration[k] > free:
            self.link_busy[way] = (at, at + self.duration[k])
        return at

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
    for s in range(int(stream.max(initial=-1)) + 1):
        mine = np.flatnonzero(stream == s)
        behind[mine[limit:]] = mine[: max(len(mine) - limit, 0)]
    return behind
