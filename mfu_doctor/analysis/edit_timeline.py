"""Apply declarative edits to a timeline: a new timeline comes back, the recorded one is never changed.

Edits compose by being applied in order, so a plan is just a longer list of edits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.edits import (
    AsyncCopies,
    DropWaits,
    Edit,
    MergeLaunches,
    MoveToStream,
    ScaleDevice,
    ScaleHost,
    SetDevice,
    ShortenHost,
)
from mfu_doctor.analysis.model import Calls, Timeline
from mfu_doctor.intervals import Intervals

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


def apply(timeline: Timeline, edits: Sequence[Edit], row_of_entry: Rows) -> Timeline:
    """The timeline with these edits made.

    Args:
        timeline: the recorded (or an already edited) timeline.
        edits: applied in order.
        row_of_entry: event row of each Activity entry, shape (n,).
    """
    for edit in edits:
        timeline = _apply_one(timeline, edit, row_of_entry)
    return timeline


def _apply_one(timeline: Timeline, edit: Edit, row_of_entry: Rows) -> Timeline:
    match edit:
        case ScaleHost(where, factor):
            weight = np.full(where.count, 1.0 - factor)
            return replace(timeline, calls=_shorten(timeline.calls, where, weight))
        case ShortenHost(start, end, keep):
            length = np.maximum(end - start, 1)
            weight = np.clip(1.0 - keep / length, 0.0, 1.0)
            return replace(timeline, calls=_shorten(timeline.calls, Intervals(start, end), weight))
        case DropWaits(rows):
            return replace(timeline, calls=_drop_waits(timeline.calls, rows))
        case ScaleDevice(rows, factor):
            return _set_durations(timeline, rows, row_of_entry, scale=factor)
        case SetDevice(rows, duration):
            return _set_durations(timeline, rows, row_of_entry, set_to=duration.astype(np.float64))
        case AsyncCopies(rows, duration):
            return _async_copies(timeline, rows, duration, row_of_entry)
        case MergeLaunches():
            return _merge(timeline, edit, row_of_entry)
        case MoveToStream(rows):
            return _move(timeline, rows, row_of_entry)


def _shorten(calls: Calls, where: Intervals, weight: Floats) -> Calls:
    """Take `weight` of the host time inside each interval out of gaps and costs."""
    if not where.count:
        return calls
    before = np.where(calls.after >= 0, calls.end[np.maximum(calls.after, 0)], calls.start)
    lost_gap = _weighted(where, weight, np.minimum(before, calls.start), calls.start)
    lost_cost = _weighted(where, weight, calls.start, calls.start + calls.cost.astype(np.int64))
    recorded_gap = np.maximum(calls.start - before, 1)
    recorded_cost = np.maximum(calls.cost, 1.0)
    gap = calls.gap * np.clip(1.0 - lost_gap / recorded_gap, 0.0, 1.0)
    cost = calls.cost * np.clip(1.0 - lost_cost / recorded_cost, 0.0, 1.0)
    return replace(calls, gap=gap, cost=cost)


def _weighted(where: Intervals, weight: Floats, start: Rows, end: Rows) -> Floats:
    """Weighted length of the intervals inside each ``[start, end)``."""

    def before(time: Rows) -> Floats:
        total = np.concatenate((np.zeros(1), np.cumsum(where.lengths * weight)))
        index = np.searchsorted(where.start, time, side="right")
        at = np.maximum(index - 1, 0)
        inside = np.clip(time, where.start[at], where.end[at]) - where.start[at]
        return np.where(index > 0, total[at] + inside * weight[at], 0.0)

    return before(end) - before(start)


def _drop_waits(calls: Calls, rows: Rows) -> Calls:
    dropped = set(np.flatnonzero(np.isin(calls.row, rows) & (calls.row >= 0)).tolist())
    return replace(calls, waits=tuple(w for w in calls.waits if w[0] not in dropped))


def _set_durations(
    timeline: Timeline,
    rows: Rows,
    row_of_entry: Rows,
    *,
    scale: Floats | None = None,
    set_to: Floats | None = None,
) -> Timeline:
    """New durations of device operations, or on a CPU of the operators' own stretches."""
    ops, calls = timeline.operations, timeline.calls
    on_device = len(ops.entry) > 0
    mine = row_of_entry[ops.entry] if on_device else calls.row
    at, which = _positions(mine, rows)
    target = (ops.duration if on_device else calls.cost).copy()
    if scale is not None:
        target[at] = target[at] * scale[which]
    elif set_to is not None:
        total = np.bincount(which, weights=target[at], minlength=len(rows))
        target[at] = target[at] / np.maximum(total[which], 1.0) * set_to[which]
    if on_device:
        return replace(timeline, operations=replace(ops, duration=target))
    return replace(timeline, calls=replace(calls, cost=target))


def _positions(mine: Rows, rows: Rows) -> tuple[Rows, Rows]:
    """Positions in `mine` whose value is in `rows`, and where in `rows` it is."""
    if not len(rows):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.argsort(rows, kind="stable")
    at = np.minimum(np.searchsorted(rows[order], mine), len(rows) - 1)
    hit = np.flatnonzero(rows[order][at] == mine)
    return hit, order[at[hit]]


def _async_copies(timeline: Timeline, rows: Rows, duration: Rows, row_of_entry: Rows) -> Timeline:
    ops, calls = timeline.operations, timeline.calls
    timeline = _set_durations(timeline, rows, row_of_entry, set_to=duration.astype(np.float64))
    at, _ = _positions(row_of_entry[ops.entry], rows)
    launching = set(ops.call[at].tolist())
    kept = tuple((i, targets) for i, targets in calls.waits if i not in launching)
    return replace(timeline, calls=replace(calls, waits=kept))


def _merge(timeline: Timeline, edit: MergeLaunches, row_of_entry: Rows) -> Timeline:
    """Each group becomes its first operation with the group's cost; the others cost nothing.

    Host time shrinks first: on a CPU the merged operation is a call too, and its new cost is not to be scaled again.
    """
    weight = np.full(edit.where.count, 1.0 - edit.host_factor)
    timeline = replace(timeline, calls=_shorten(timeline.calls, edit.where, weight))
    if not len(edit.rows):
        return timeline
    ordered = np.lexsort((edit.rows, edit.group))
    first = np.concatenate((np.ones(1, np.bool_), np.diff(edit.group[ordered]) != 0))
    duration = np.zeros(len(edit.rows))
    leaders = ordered[first]
    duration[leaders] = edit.device_ns[edit.group[leaders]]
    timeline = _set_durations(timeline, edit.rows, row_of_entry, set_to=duration)
    ops = timeline.operations
    if len(ops.entry):
        at, which = _positions(row_of_entry[ops.entry], edit.rows)
        follower = at[~np.isin(which, leaders)]
        gap, latency = ops.gap.copy(), ops.latency.copy()
        gap[follower], latency[follower] = np.minimum(gap[follower], 0.0), 0.0
        timeline = replace(timeline, operations=replace(ops, gap=gap, latency=latency))
    return timeline


def _move(timeline: Timeline, rows: Rows, row_of_entry: Rows) -> Timeline:
    ops = timeline.operations
    at, _ = _positions(row_of_entry[ops.entry], rows)
    stream = ops.stream.copy()
    stream[at] = (stream.max() if len(stream) else 0) + 1
    return replace(timeline, operations=replace(ops, stream=stream))
