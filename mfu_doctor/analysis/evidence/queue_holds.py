"""Work that was queued while the device was idle, and what held it, as far as the trace tells.

A launch puts an operation into the queue of its stream. It starts when the stream is free and the events that the stream waits
for have happened. If the device is idle meanwhile, what was waited for is not among the recorded work of this device.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.steady_steps import Rows, steady_of, under
from mfu_doctor.analysis.names.vocabulary import COMMUNICATION_OP, GRAPH_LAUNCH, WAIT_EVENT, rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMMUNICATION
from mfu_doctor.analysis.views.launches import longest_latency
from mfu_doctor.analysis.views.once import once
from mfu_doctor.trace import CALL_CATEGORIES

COLLECTIVE, EVENT, GRAPH, UNKNOWN = "collective", "event", "graph", "unknown"


class QueueHolds(Struct, frozen=True):
    """The holds of the steady steps; times are means per step in nanoseconds.

    Attributes:
        rows: event rows of the operations that were held.
        held_ns: device idle time while work was held.
        by_holder: the same by what held it, largest first.
        first: the operation that was held longest.
        polls: waits of the host by polling, per step.
    """

    rows: Rows
    held_ns: float
    by_holder: dict[str, float]
    first: int
    polls: float


@once
def queue_holds(run: Run) -> QueueHolds | None:
    """What held queued work while the device was idle, longer than a launch takes; None if nothing did."""
    steady = steady_of(run)
    held = run.breakdown.owners["queue"] & steady.device
    entry = np.minimum(np.searchsorted(run.activity.start, held.end, side="left"), run.activity.count - 1)
    long = held.lengths > longest_latency(run.launches.call)[entry] if held.count else np.zeros(0, np.bool_)
    if not long.any():
        return None
    entry, length = entry[long], held.lengths[long]
    total: dict[str, float] = defaultdict(float)
    for holder, ns in zip(_holders(run, entry), length.tolist(), strict=True):
        total[holder] += steady.per_step(ns)
    ranked = dict(sorted(total.items(), key=lambda item: -item[1]))
    polls = steady.per_step(len(steady.issued(run, run.host.polls.row)))
    rows = run.activity.row[entry]
    return QueueHolds(rows, sum(ranked.values()), ranked, int(rows[np.argmax(length)]), polls)


def _holders(run: Run, entry: Rows) -> list[str]:
    """What held each of these entries of the activity table."""
    wait = _wait_before(run, entry)
    call = run.launches.call[entry]
    in_collective = under(run, wait, COMMUNICATION_OP) >= 0
    graph = np.isin(call, rows_matching(run.trace, GRAPH_LAUNCH, run.trace.rows(*CALL_CATEGORIES)))
    collective = in_collective | (run.activity.kind[entry] == COMMUNICATION)
    found = np.select((collective, wait >= 0, graph), (COLLECTIVE, EVENT, GRAPH), UNKNOWN)
    return [str(holder) for holder in found]


def _wait_before(run: Run, entry: Rows) -> Rows:
    """For each entry the last wait call of its thread since the launch before it on its stream, else -1."""
    events, launches = run.trace.events, run.launches
    waits = rows_matching(run.trace, WAIT_EVENT, run.trace.rows(*CALL_CATEGORIES))
    found = np.full(len(entry), -1, np.int64)
    for i, k in enumerate(entry.tolist()):
        call = int(launches.call[k])
        if call < 0:
            continue
        stream = np.flatnonzero(run.activity.track[:k] == run.activity.track[k])
        before = int(launches.call[stream[-1]]) if len(stream) else -1
        since = int(events.start[before]) if before >= 0 else -1
        mine = waits[(events.track[waits] == events.track[call]) & (events.start[waits] < events.start[call])]
        if len(mine) and events.start[mine[-1]] > since:
            found[i] = mine[-1]
    return found
