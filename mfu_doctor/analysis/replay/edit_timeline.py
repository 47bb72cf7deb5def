"""Apply declarative edits to a timeline: a new timeline comes back, the recorded one is never changed.

The order of edits does not matter. First, all host edits become one map of how much of each nanosecond remains. Then durations
are set, groups merged and durations scaled. Last, waits and streams change. A plan is a longer list of edits, and the same edit
twice has the effect of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from mfu_doctor.analysis.replay.edits import (
    AsyncCopies,
    DropWaits,
    Edit,
    MergeLaunches,
    MoveToStream,
    ReleaseHolds,
    ScaleDevice,
    SetDevice,
    TwoWayLink,
)
from mfu_doctor.analysis.replay.latest import MOST_STREAMS
from mfu_doctor.analysis.replay.model import TO_DEVICE, TO_HOST, Operations, Timeline
from mfu_doctor.analysis.replay.shortened_host import shortened
from mfu_doctor.arrays.distinct import distinct

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


# The order in which kinds of edits take effect: what sets a duration before what scales it, links last.
_ORDER = (ReleaseHolds, SetDevice, AsyncCopies, MergeLaunches, ScaleDevice, DropWaits, MoveToStream, TwoWayLink)


def apply(timeline: Timeline, edits: Sequence[Edit], row_of_entry: Rows, slowdown: float = 1.0) -> Timeline:
    """The timeline with these edits made.

    Args:
        timeline: the recorded timeline.
        edits: in any order.
        row_of_entry: event row of each Activity entry, shape (n,).
        slowdown: how many times as long everything took while it was recorded; so do durations that edits set.
    """
    changed = replace(timeline, calls=shortened(timeline.calls, edits))
    work = _Work(timeline, row_of_entry, slowdown)
    work.moved = _moved(edits, work)
    merges = _apart([e for e in edits if isinstance(e, MergeLaunches)], work)
    others = [e for e in edits if isinstance(e, _ORDER) and not isinstance(e, MergeLaunches)]
    for edit in sorted((*others, *merges), key=lambda e: _ORDER.index(type(e))):
        changed = _apply_one(changed, edit, work)
    return changed


def _apart(merges: list[MergeLaunches], work: _Work) -> list[MergeLaunches]:
    """Merges that share no row: of two groups that do, the one of the merge that removes more is made, the other not."""
    taken = np.zeros(0, np.int64)
    kept = []
    for merge in sorted(merges, key=lambda m: (-_removed(m, work), int(m.rows.min(initial=0)), len(m.rows))):
        clash = distinct(merge.group[np.isin(merge.rows, taken)])
        free = ~np.isin(merge.group, clash)
        kept.append(replace(merge, rows=merge.rows[free], group=merge.group[free]))
        taken = np.concatenate((taken, merge.rows[free]))
    return kept


def _removed(merge: MergeLaunches, work: _Work) -> float:
    """Device time that a merge takes away by itself."""
    at, which = _positions(work.row, merge.rows)
    took = np.bincount(merge.group[which], weights=work.recorded[at], minlength=len(merge.device_ns))
    return float(np.maximum(took - merge.device_ns * work.slowdown, 0.0).sum())


class _Work:
    """The recorded durations (operations, or on a CPU the calls' own cost) and which event row each belongs to."""

    def __init__(self, recorded: Timeline, row_of_entry: Rows, slowdown: float) -> None:
        self.slowdown = slowdown
        self.on_device = len(recorded.operations.entry) > 0
        self.row = row_of_entry[recorded.operations.entry] if self.on_device else recorded.calls.row
        self.recorded = recorded.operations.duration if self.on_device else recorded.calls.cost
        self.moved: set[int] = set()  # operations that get a stream of their own

    def of(self, timeline: Timeline) -> Floats:
        """The present durations of a timeline, as a copy."""
        return (timeline.operations.duration if self.on_device else timeline.calls.cost).copy()

    def put(self, timeline: Timeline, duration: Floats) -> Timeline:
        """The timeline with these durations."""
        if self.on_device:
            return replace(timeline, operations=replace(timeline.operations, duration=duration))
        return replace(timeline, calls=replace(timeline.calls, cost=duration))


def _apply_one(timeline: Timeline, edit: Edit, work: _Work) -> Timeline:
    match edit:
        case DropWaits(rows):
            return _drop_waits(timeline, rows, work)
        case ReleaseHolds(rows, left):
            return _release(timeline, _positions(work.row, rows)[0], left)
        case ScaleDevice(rows, factor):
            at, which = _positions(work.row, rows)
            duration = work.of(timeline)
            duration[at] *= factor[which]
            return work.put(timeline, duration)
        case SetDevice(rows, duration_ns):
            return _set_durations(timeline, rows, duration_ns.astype(np.float64), work)
        case AsyncCopies(rows, duration_ns):
            return _async_copies(timeline, rows, duration_ns, work)
        case MergeLaunches():
            return _merge(timeline, edit, work)
        case MoveToStream(rows):
            return _move(timeline, rows, work)
        case TwoWayLink():
            return replace(timeline, two_way=True)
    return timeline  # host edits are made together, before these


def _drop_waits(timeline: Timeline, rows: Rows, work: _Work) -> Timeline:
    """The host no longer waits. What it then launches on another stream still does: it was waited for to be used there."""
    calls = timeline.calls
    dropped = set(np.flatnonzero(np.isin(calls.row, rows) & (calls.row >= 0)).tolist())
    used = [(call, targets[0]) for call, targets in calls.waits if call in dropped and len(targets) == 1]
    return _unblocked(timeline, dropped, used, work)


def _unblocked(timeline: Timeline, free: set[int], used: list[tuple[int, int]], work: _Work) -> Timeline:
    """These calls wait for nothing; the first operation that each other stream gets after a call waits for what it used.

    A copy to the host cannot use what is being copied from it, and a copy that an edit moves ahead is of the next batch.
    """
    calls, ops = timeline.calls, timeline.operations
    kept = tuple(w for w in calls.waits if w[0] not in free)
    stayed = sorted(pair for pair in used if pair[1] not in work.moved)
    waits = (*ops.waits, *(_links(ops, stayed) if stayed else ()))
    return replace(timeline, calls=replace(calls, waits=kept), operations=replace(ops, waits=waits))


def _links(ops: Operations, used: list[tuple[int, int]]) -> Iterator[tuple[int, int, float]]:
    """What operations now wait for: each for what calls used before it was issued, and after the one before it on its stream.

    Of many such calls the last ones count: what they used is done last.
    """
    order = np.argsort(ops.stream, kind="stable")
    upto = np.searchsorted(np.array([call for call, _ in used]), ops.call[order])
    is_next = np.append(False, np.diff(ops.stream[order]) == 0)
    since = np.maximum(np.where(is_next, np.append(0, upto[:-1]), 0), upto - MOST_STREAMS)
    for at in np.flatnonzero(upto > since).tolist():
        user = int(order[at])
        for _, source in used[since[at] : upto[at]]:
            to_host = (ops.link[source], ops.link[user]) == (TO_DEVICE, TO_HOST)
            if ops.stream[source] != ops.stream[user] and not to_host:
                yield user, source, 0.0


def _release(timeline: Timeline, at: Rows, left: float) -> Timeline:
    """These operations start when the run's usual delays are over, or after `left` of what they took longer."""
    ops, usual = timeline.operations, timeline.released
    latency, gap = ops.latency.copy(), ops.gap.copy()
    latency[at] -= (1.0 - left) * np.maximum(ops.latency - usual.latency, 0.0)[at]
    gap[at] -= (1.0 - left) * np.maximum(ops.gap - usual.gap, 0.0)[at]
    return replace(timeline, operations=replace(ops, latency=latency, gap=gap))


def _set_durations(timeline: Timeline, rows: Rows, set_to: Floats, work: _Work) -> Timeline:
    """New durations of device operations, or on a CPU of the parts of an operator.

    One that shortens leaves what is shorter already as it is.
    """
    at, which = _positions(work.row, rows)
    total = np.bincount(which, weights=work.recorded[at], minlength=len(rows))
    aim = work.recorded[at] / np.maximum(total[which], 1.0) * set_to[which] * work.slowdown
    duration = work.of(timeline)
    shortens = aim <= work.recorded[at]
    duration[at] = np.where(shortens, np.minimum(duration[at], aim), np.maximum(duration[at], aim))
    return work.put(timeline, duration)


def _positions(mine: Rows, rows: Rows) -> tuple[Rows, Rows]:
    """Positions in `mine` whose value is in `rows`, and where in `rows` it is first."""
    if not len(rows) or not len(mine):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    least, most = int(mine.min()), int(mine.max())  # an edit names rows of the whole trace, of which few are replayed
    place = np.full(most - least + 1, -1, np.int64)
    near = np.flatnonzero((rows >= least) & (rows <= most))[::-1]
    place[rows[near] - least] = near
    at = place[mine - least]
    hit = np.flatnonzero(at >= 0)
    return hit, at[hit]


def _async_copies(timeline: Timeline, rows: Rows, duration_ns: Rows, work: _Work) -> Timeline:
    timeline = _set_durations(timeline, rows, duration_ns.astype(np.float64), work)
    at, _ = _positions(work.row, rows)
    ops = timeline.operations
    launching = set(ops.call[at].tolist())
    used = [(call, t[0]) for call, t in timeline.calls.waits if call in launching and t and ops.link[t[0]] == TO_DEVICE]
    return _unblocked(timeline, launching, used, work)


def _merge(timeline: Timeline, edit: MergeLaunches, work: _Work) -> Timeline:
    """Each group becomes its first operation with the group's cost (never more than it took); the others cost nothing.

    Host time has shrunk before: on a CPU the merged operation is a call too, and its new cost is not to be scaled again.
    """
    if not len(edit.rows):
        return timeline
    if len(distinct(edit.rows)) < len(edit.rows):
        raise ValueError("a row cannot be merged twice")
    at, which = _positions(work.row, edit.rows)
    ordered = np.lexsort((edit.rows, edit.group))
    first = np.concatenate((np.ones(1, np.bool_), np.diff(edit.group[ordered]) != 0))
    leads = np.zeros(len(edit.rows), np.bool_)
    leads[ordered[first]] = True
    groups = len(edit.device_ns)
    took = np.bincount(edit.group[which], weights=work.recorded[at], minlength=groups)
    cost = np.minimum(edit.device_ns * work.slowdown, took)
    of_row = np.bincount(which, weights=work.recorded[at], minlength=len(edit.rows))
    part = work.recorded[at] / np.maximum(of_row[which], 1.0)  # on a CPU one row can be several parts
    duration = work.of(timeline)
    duration[at] = np.where(leads[which], part * cost[edit.group[which]], 0.0)
    timeline = work.put(timeline, duration)
    if not work.on_device:
        return timeline
    ops, follower = timeline.operations, at[~leads[which]]
    gap, latency = ops.gap.copy(), ops.latency.copy()
    gap[follower], latency[follower] = np.minimum(gap[follower], 0.0), 0.0
    return replace(timeline, operations=replace(ops, gap=gap, latency=latency))


def _moved(edits: Sequence[Edit], work: _Work) -> set[int]:
    rows = [edit.rows for edit in edits if isinstance(edit, MoveToStream)]
    return set(_positions(work.row, np.concatenate(rows))[0].tolist()) if rows else set()


def _move(timeline: Timeline, rows: Rows, work: _Work) -> Timeline:
    ops = timeline.operations
    at, _ = _positions(work.row, rows)
    stream = ops.stream.copy()
    stream[at] = (stream.max() if len(stream) else 0) + 1
    return replace(timeline, operations=replace(ops, stream=stream))
