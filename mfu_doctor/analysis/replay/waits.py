"""Which device operation waits for which across streams.

A trace rarely contains what an event was recorded after. The recorded times show it: if an operation starts just when another
one ends, and neither its own stream nor its launch delayed it, it waited for the other one. What the trace does contain
(`cuda_sync` events, wait calls around collectives) is used first. Every wait is checked against the recorded times before it is
used.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.replay.latest import Latest
from mfu_doctor.analysis.replay.model import MARK, Calls, Operations
from mfu_doctor.analysis.views.activity import COMMUNICATION, Activity
from mfu_doctor.analysis.views.groups import groups, on_each
from mfu_doctor.analysis.views.launches import longest_latency
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.trace import Category, Trace
from mfu_doctor.units import NS_PER_US

# Clocks of host and device agree to about this; a wait may seem to end a little after its waiter starts.
SLOP_NS = 1 * NS_PER_US
# A start this much later than its own stream and launch explain is a wait for something else.
HELD_BACK_NS = 10 * NS_PER_US
# A waiter starts within this after what it waited for.
RELEASE_NS = 30 * NS_PER_US
# The last wave of a kernel that fills the device: another stream's kernel finds room this long before it ends.
LAST_WAVE_NS = 200 * NS_PER_US
# Where more operations than this end at one moment, the times do not tell which of them was waited for.
MOST_NEAR = 1024


class Waits(Struct, frozen=True):
    """What the inference looks at; `wait_rows` are the rows of cudaStreamWaitEvent calls."""

    trace: Trace
    activity: Activity
    calls: Calls
    operations: Operations
    wait_rows: npt.NDArray[np.int64]
    opens: int  # when the first replayed step begins, ns: what held an operation before that is no part of a step

    @property
    def issued(self) -> npt.NDArray[np.int64]:
        """When each operation's call began; far in the past where the call is not in the trace."""
        ops, calls = self.operations, self.calls
        return np.where(ops.call >= 0, calls.start[np.maximum(ops.call, 0)], np.iinfo(np.int64).min // 2)

    @property
    def ended(self) -> npt.NDArray[np.int64]:
        """When each operation ended, as recorded."""
        return self.operations.start + self.operations.duration.astype(np.int64)


def find_device_waits(waits: Waits) -> tuple[Operations, Operations, Operations]:
    """Fill in latency, gap and cross-stream waits of the operations.

    Returns:
        The operations with each one's own recorded latency and gap (what edits are priced on); the same with only the run's
        median latency and mean gap, and the long holds that nothing in the trace explains; and these without the holds. Else
        nothing of a single operation's recorded start is left in the latter two, so replaying them tests the model and not
        the recording, and the difference between them is what the trace does not explain.
    """
    ops, issued, ended = waits.operations, waits.issued, waits.ended
    previous_end = _previous_end(ops, ended)
    launched = (ops.call >= 0) & (waits.calls.row[np.maximum(ops.call, 0)] != MARK)
    first_of_call = np.concatenate((np.ones(1, np.bool_), np.diff(ops.call) != 0)) & launched
    too_long = _held_ns(waits, previous_end) > longest_latency(ops.call)
    direct = (ops.start - issued)[first_of_call & (previous_end < issued) & ~too_long]
    base = float(np.quantile(direct, 0.05)) if len(direct) else 0.0
    ready = issued + base
    queued = previous_end >= ready
    held = ops.start - np.maximum(ready, previous_end)
    inferred = _inferred(waits, np.flatnonzero(held > HELD_BACK_NS), np.maximum(ready, previous_end))
    edges: dict[int, tuple[int, ...]] = {}
    for told in (
        _declared(waits),
        _around_collectives(waits),
        _by_order(waits),
        {k: (j,) for k, j in inferred.items()},
    ):
        edges |= {k: tuple(dict.fromkeys((*edges.get(k, ()), *sources))) for k, sources in told.items()}
    bound = np.zeros(len(ops.start), np.bool_)
    listed: list[tuple[int, int, float]] = []
    mean_gap = _mean_gap(ops, (ops.start - previous_end).astype(np.float64), queued & (held <= HELD_BACK_NS))
    for k, sources in edges.items():
        for j in sources:
            slack = float(ops.start[k] - ended[j])
            if j >= k or (slack < -SLOP_NS and inferred.get(k) != j):
                continue  # contradicted by the recorded times
            if held[k] > HELD_BACK_NS and slack <= RELEASE_NS:
                bound[k] = True
                listed.append((k, j, slack))
            else:
                listed.append((k, j, 0.0))
    own_latency = np.where(~queued & ~bound & (ops.call >= 0), (ops.start - issued).astype(np.float64), base)
    gap = np.where(queued & ~bound, (ops.start - previous_end).astype(np.float64), mean_gap)
    own = replace(ops, latency=np.maximum(own_latency, 0), gap=gap, waits=tuple(sorted(listed)))
    latency = np.full(len(ops.start), float(np.median(direct)) if len(direct) else base)
    slow = ~queued & ~bound & launched & (_cost(waits) > longest_latency(ops.call))  # the call itself took long
    held_back = ~bound & (ops.call >= 0) & too_long

    def with_own(mask: npt.NDArray[np.bool_]) -> Operations:
        delays = np.where(mask & ~queued, own.latency, latency), np.where(mask & queued, own.gap, mean_gap)
        return replace(own, latency=delays[0], gap=delays[1])

    return own, with_own(slow | held_back), with_own(slow | (held_back & (ops.start <= waits.opens)))


def _cost(waits: Waits) -> npt.NDArray[np.float64]:
    """What the call of each operation took."""
    cost: npt.NDArray[np.float64] = waits.calls.cost[np.maximum(waits.operations.call, 0)]
    return cost


def _held_ns(waits: Waits, previous_end: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How long each operation waited after its call had returned and its stream was free; negative if it did not."""
    ended = waits.calls.end[np.maximum(waits.operations.call, 0)]
    held: npt.NDArray[np.int64] = waits.operations.start - np.maximum(ended, previous_end)
    return held


def _mean_gap(
    ops: Operations, gap: npt.NDArray[np.float64], believed: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Mean pause between queued operations of each stream, spread over its operations; 0 if a stream never queued."""
    out = np.zeros(len(gap))
    for _, mine in groups(ops.stream):
        if believed[mine].any():
            out[mine] = gap[mine[believed[mine]]].mean()
    return out


def _previous_end(ops: Operations, ended: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """End of the operation before each one on its stream; far in the past for the first."""
    out = np.full(len(ended), np.iinfo(np.int64).min // 2, np.int64)
    for _, mine in groups(ops.stream):
        out[mine[1:]] = ended[mine[:-1]]
    return out


def _inferred(waits: Waits, late: npt.NDArray[np.int64], free: npt.NDArray[np.float64]) -> dict[int, int]:
    """What held back each operation that neither its launch nor its own stream explains.

    Either the operation of another stream that ended just before (an event), or one that filled the device and was in its last
    wave when this one found room (no event, but the same consequence).
    """
    ops, ended = waits.operations, waits.ended
    by_end = np.argsort(ended, kind="stable")
    sorted_end = ended[by_end]
    found: dict[int, int] = {}
    for k in late.tolist():
        start = int(ops.start[k])
        lo = int(np.searchsorted(sorted_end, start - RELEASE_NS, side="left"))
        at = int(np.searchsorted(sorted_end, start + SLOP_NS, side="right"))
        hi = int(np.searchsorted(sorted_end, start + LAST_WAVE_NS, side="right"))
        near = by_end[max(lo, at - MOST_NEAR) : min(hi, at + MOST_NEAR)]
        other = (near < k) & (ops.stream[near] != ops.stream[k]) & (ended[near] > free[k])
        event = near[other & (ended[near] <= start + SLOP_NS)]
        filled = near[other & (ended[near] > start + SLOP_NS) & (ops.start[near] <= free[k])]
        if len(event):
            found[k] = int(event[-1])
        elif len(filled):
            found[k] = int(filled[0])
    return found


def _declared(waits: Waits) -> dict[int, tuple[int, ...]]:
    """Waits that `cuda_sync` events spell out: stream, stream waited on, and the record call that was waited for."""
    trace, ops, issued = waits.trace, waits.operations, waits.issued
    found: dict[int, dict[int, None]] = {}
    call_at = _start_of(trace, waits.wait_rows)
    rows = [r for r in trace.rows(Category.SYNC).tolist() if (a := trace.args_of(r)) and a.wait_record_correlation]
    record_at = _start_of(trace, trace.rows(Category.RUNTIME, Category.DRIVER))
    ids = _stream_ids(trace, ops)
    on_track, on_stream = dict(groups(ops.stream)), dict(groups(ids))
    none = np.zeros(0, np.int64)
    for row in rows:
        args = trace.args_of(row)
        recorded = args.wait_record_correlation if args is not None else None
        waited_at, recorded_at = call_at.get(int(trace.events.correlation[row])), record_at.get(recorded or -1)
        if args is None or args.wait_stream is None or waited_at is None or recorded_at is None:
            continue
        waiting, source = on_track.get(int(trace.events.track[row]), none), on_stream.get(args.wait_stream, none)
        after = int(np.searchsorted(issued[waiting], waited_at, side="left"))  # operations are in order of issue
        before = int(np.searchsorted(issued[source], recorded_at, side="right")) - 1
        if after < len(waiting) and before >= 0:
            found.setdefault(int(waiting[after]), {})[int(source[before])] = None
    return {k: tuple(sources) for k, sources in found.items()}


def _by_order(waits: Waits) -> dict[int, tuple[int, ...]]:
    """Waits as programs write them: launch on one stream, `other.wait_stream(it)`, launch on the other one.

    The call does not say which streams; the operations that its thread issued right before and right after it do.
    """
    ops, trace = waits.operations, waits.trace
    row = waits.calls.row[np.maximum(ops.call, 0)]
    thread = np.where(row >= 0, trace.events.track[np.maximum(row, 0)], -1)
    issued = waits.issued
    found: dict[int, tuple[int, ...]] = {}
    called = np.flatnonzero(ops.call >= 0)
    for waiting_rows, launched in on_each(trace.events.track[waits.wait_rows], thread[called]):
        mine, rows = called[launched], waits.wait_rows[waiting_rows]
        after = np.searchsorted(issued[mine], trace.events.start[rows])
        for k in after[(after > 0) & (after < len(mine))].tolist():
            source, waiting = int(mine[k - 1]), int(mine[k])
            if ops.stream[source] != ops.stream[waiting]:
                found[waiting] = (source,)
    return found


def _start_of(trace: Trace, rows: npt.NDArray[np.int64]) -> dict[int, int]:
    """Start of each call by its correlation."""
    return dict(zip(trace.events.correlation[rows].tolist(), trace.events.start[rows].tolist(), strict=True))


def _stream_ids(trace: Trace, ops: Operations) -> npt.NDArray[np.int64]:
    ids = np.array([t.stream for t in trace.tracks], np.int64)
    return ids[ops.stream]


def _around_collectives(waits: Waits) -> dict[int, tuple[int, ...]]:
    """Waits that PyTorch always issues around collectives.

    ProcessGroupNCCL makes its stream wait for the current stream right before each collective, and `work.wait()` makes the
    current stream wait for the collective. So a wait call followed by a collective's launch ties the collective to the last
    computation issued before; any other wait call ties the next operation to the collectives issued before it.
    """
    ops, issued, trace = waits.operations, waits.issued, waits.trace
    collective = waits.activity.kind[ops.entry] == COMMUNICATION
    if not collective.any():
        return {}
    found: dict[int, tuple[int, ...]] = {}
    at = np.flatnonzero(collective)
    collectives, computations = Latest(ops.stream[at], at), np.flatnonzero(~collective)
    # operations are in issue order; those issued before the trace began sort first
    position = np.searchsorted(issued, trace.events.start[waits.wait_rows], side="left")
    for k in distinct(position[position < len(issued)]).tolist():
        if collective[k]:
            found[k] = tuple(computations[: np.searchsorted(computations, k)][-1:].tolist())
        else:
            found[k] = tuple(at[collectives.among(int(np.searchsorted(at, k)), k)].tolist())
    return found
