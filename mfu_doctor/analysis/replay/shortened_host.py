"""Edits of host time: all of them become one map of how much of each nanosecond stays.

If two fixes remove the same time, it is removed once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.replay.deliveries import after_edits, quicker
from mfu_doctor.analysis.replay.edits import Edit, MergeLaunches, PaceWorkers, ScaleHost, ShortenHost
from mfu_doctor.analysis.replay.model import Calls
from mfu_doctor.arrays.distinct import distinct

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


def shortened(calls: Calls, edits: Sequence[Edit]) -> Calls:
    """Take the host time that goes out of gaps and costs."""
    pace = min((edit.factor for edit in edits if isinstance(edit, PaceWorkers)), default=1.0)
    kept, paced = _kept(edits), quicker(calls.deliveries, pace)
    if not len(kept.edge):
        return replace(calls, deliveries=paced)
    before = np.where(calls.after >= 0, calls.end[np.maximum(calls.after, 0)], calls.start)
    gone = kept.gone_before(calls.start)
    lost_gap = gone - kept.gone_before(np.minimum(before, calls.start))
    lost_cost = kept.gone_before(calls.start + calls.cost.astype(np.int64)) - gone
    recorded_gap = np.maximum(calls.start - before, 1)
    recorded_cost = np.maximum(calls.cost, 1.0)
    gap = calls.gap * np.clip(1.0 - lost_gap / recorded_gap, 0.0, 1.0)
    cost = calls.cost * np.clip(1.0 - lost_cost / recorded_cost, 0.0, 1.0)
    return replace(calls, gap=gap, cost=cost, deliveries=after_edits(paced, kept.lost))


class _Kept(Struct, frozen=True):
    """How much of each nanosecond of host time stays: `share` from each `edge` to the next, 1 outside; shape (k,)."""

    edge: Rows
    share: Floats

    def lost(self, start: Rows, end: Rows) -> Floats:
        """Nanoseconds that go from each ``[start, end)``."""
        return self.gone_before(end) - self.gone_before(start)

    def gone_before(self, time: Rows) -> Floats:
        """Nanoseconds that go before each time."""
        if not len(self.edge):
            return np.zeros(len(time))
        goes = 1.0 - self.share
        gone = np.concatenate((np.zeros(1), np.cumsum(np.diff(self.edge) * goes[:-1])))
        at = np.maximum(np.searchsorted(self.edge, time, side="right") - 1, 0)
        removed: Floats = gone[at] + np.maximum(time - self.edge[at], 0) * goes[at]
        return removed


def _kept(edits: Sequence[Edit]) -> _Kept:
    """All host edits as one map: if several of them shorten the same time, the one that leaves least of it counts."""
    pieces = [_piece(e) for e in edits if isinstance(e, ScaleHost | ShortenHost | MergeLaunches)]
    pieces = [p for p in pieces if len(p[0])]
    if not pieces:
        return _Kept(np.zeros(0, np.int64), np.zeros(0))
    edge = distinct(np.concatenate([np.concatenate((start, end)) for start, end, _ in pieces]))
    share = np.ones(len(edge))
    for start, end, keep in pieces:
        at = np.maximum(np.searchsorted(start, edge, side="right") - 1, 0)
        covered = (edge >= start[at]) & (edge < end[at])
        share = np.where(covered, np.minimum(share, keep[at]), share)
    return _Kept(edge, share)


def _piece(edit: ScaleHost | ShortenHost | MergeLaunches) -> tuple[Rows, Rows, Floats]:
    """Start, end and share kept of each interval that a host edit shortens, in time order."""
    match edit:
        case ScaleHost(where, factor):
            start, end, keep = where.start, where.end, np.full(where.count, factor)
        case ShortenHost(start, end, keep_ns):
            keep = keep_ns / np.maximum(end - start, 1)
        case MergeLaunches():
            start, end, keep = edit.where.start, edit.where.end, np.full(edit.where.count, edit.host_factor)
    order = np.argsort(start, kind="stable")
    return start[order], end[order], np.clip(keep[order], 0.0, 1.0)
