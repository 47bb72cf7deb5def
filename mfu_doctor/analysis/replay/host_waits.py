"""What blocked the host: synchronisations, copies that return only when they are done, launches into a full queue.

Blocked time is not work. It is not part of the duration of the call, but an edge to the device operation that was waited for.
So a faster device makes it shorter, and a removed wait removes it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from mfu_doctor.analysis.names.vocabulary import (
    ASYNC_COPY,
    BLOCKING,
    EVENT_SYNC,
    HOST_TO_DEVICE_PAGEABLE,
    SYNC_ALL,
    ids_matching,
)
from mfu_doctor.analysis.replay.latest import Latest
from mfu_doctor.analysis.replay.model import Calls
from mfu_doctor.analysis.replay.waits import MOST_NEAR, SLOP_NS, Waits
from mfu_doctor.analysis.views.activity import COPY
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.analysis.views.polls import Polls
from mfu_doctor.units import NS_PER_US

# A copy from pageable memory holds its call until its last chunk is staged, some hundred microseconds before it ends on the
# device. A call that returned before this share of the copy was left was not held by it: such a copy is staged as a whole.
_UNHELD_SHARE = 0.5
# What a synchronisation costs when there is nothing to wait for.
EMPTY_SYNC_NS = 5 * NS_PER_US
# Launch queue of a CUDA stream, in operations; used until a trace shows a blocked launch.
QUEUE_LIMIT = 1024
# From the end of what a host call waited for to its return, if the trace shows no such wait.
_RETURN_NS = 2.0 * NS_PER_US
# A queue with fewer outstanding operations than this was never full; one within this share of its longest was.
_FULL_OUTSTANDING = 500
_FULL_SHARE = 0.95
# A launch into a full queue that takes this many times the usual was blocked.
_BLOCKED_RATIO = 2.0


def find_host_waits(waits: Waits, polls: Polls) -> tuple[Calls, int]:
    """Take blocked time out of the calls' cost and make it edges; also the launch queue's limit as this trace shows it."""
    calls, limit = _blocked_launches(waits)
    trace, ops, ended = waits.trace, waits.operations, waits.ended
    cost = calls.cost.copy()
    tail = np.full(len(cost), _RETURN_NS)
    listed: list[tuple[int, tuple[int, ...]]] = []
    name = np.where(calls.row >= 0, trace.events.name[np.maximum(calls.row, 0)], -1)
    blocking = np.isin(name, ids_matching(trace, BLOCKING))
    copying = np.isin(name, ids_matching(trace, ASYNC_COPY))
    drains_all = np.isin(name, ids_matching(trace, SYNC_ALL))
    by_event = np.isin(name, ids_matching(trace, EVENT_SYNC))
    staged = np.isin(trace.events.name[waits.activity.row[ops.entry]], ids_matching(trace, HOST_TO_DEVICE_PAGEABLE))
    asked = dict(zip(polls.row.tolist(), polls.asked.tolist(), strict=True))
    polled = np.isin(calls.row, polls.row)
    latest, ends = Latest(ops.stream, ended), _Ends(ended)
    last_issued = np.searchsorted(ops.call, np.arange(len(name)), side="right")  # operations issued up to each call
    for i in np.flatnonzero(blocking | copying | polled).tolist():
        own = int(last_issued[i]) - 1
        targets: tuple[int, ...] = ()
        if copying[i] and own >= 0 and ops.call[own] == i:
            copied = waits.activity.kind[ops.entry[own]] == COPY
            early = max(_UNHELD_SHARE * ops.duration[own], SLOP_NS) if staged[own] else SLOP_NS
            targets = (own,) if copied and calls.end[i] >= ended[own] - early else ()
        elif polled[i]:
            targets = ends.last_in(asked[int(calls.row[i])] - 1, int(calls.end[i]) + SLOP_NS, own + 1)
        else:
            # a stream that was still busy when the call returned cannot have been drained
            drained = latest.among(own + 1, int(calls.end[i]) + SLOP_NS)
            targets = tuple(drained if drains_all[i] else drained[-1:])
            if by_event[i] and not (drained and ended[drained[-1]] > calls.start[i]):
                targets = ends.last_in(int(calls.start[i]), int(calls.end[i]) + SLOP_NS, own + 1)
        if not targets:
            continue
        listed.append((i, targets))
        done = int(ended[list(targets)].max())
        if done > calls.start[i]:
            tail[i] = float(calls.end[i] - done)
            cost[i] = min(cost[i], EMPTY_SYNC_NS)
    return replace(calls, cost=cost, tail=tail, waits=tuple(listed)), limit


class _Ends:
    """When operations ended, each known by its position in issue order."""

    def __init__(self, ended: npt.NDArray[np.int64]) -> None:
        self.ended = ended
        self._order = np.argsort(ended, kind="stable")
        self._sorted = ended[self._order]

    def last_in(self, after: int, until: int, among: int) -> tuple[int, ...]:
        """Of the first so many operations the one that ended last, after one moment and up to another; () if there is none."""
        lo, hi = np.searchsorted(self._sorted, [after, until], side="right")
        near = self._order[max(lo, hi - MOST_NEAR) : hi]
        near = near[near < among]
        return (int(near[np.searchsorted(self.ended[near], self.ended[near[-1]])]),) if len(near) else ()


def _blocked_launches(waits: Waits) -> tuple[Calls, int]:
    """Launches that took long because the stream's queue was full: their cost becomes the usual one of their name."""
    calls, ops = waits.calls, waits.operations
    launching = ops.call >= 0
    if not launching.any():
        return calls, QUEUE_LIMIT
    outstanding = np.zeros(len(ops.call), np.int64)
    for _, on_stream in groups(ops.stream):
        mine = on_stream[launching[on_stream]]
        begun = np.searchsorted(ops.start[mine], calls.start[ops.call[mine]], side="right")
        outstanding[mine] = np.arange(len(mine)) - begun
    most = int(outstanding.max())
    if most < _FULL_OUTSTANDING:
        return calls, QUEUE_LIMIT
    cost = calls.cost.copy()
    plain = launching & (waits.activity.kind[ops.entry] != COPY)
    usual = float(np.median(cost[ops.call[plain & (outstanding < most / 2)]]))
    slow = plain & (outstanding >= _FULL_SHARE * most) & (cost[ops.call] > _BLOCKED_RATIO * usual)
    if not slow.any():
        return calls, max(most, QUEUE_LIMIT)
    cost[ops.call[slow]] = usual
    return replace(calls, cost=cost), int(outstanding[slow].max())
