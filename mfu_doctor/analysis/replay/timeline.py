"""The recorded run as a model that can be run again: host calls in issue order, device operations in stream order.

`build_timeline` makes plain arrays from rows of the trace, with every constraint explicit (which call issued which operation,
which operation waits for which, what is work and what is waiting). Replay simulates these arrays; edits change copies of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from mfu_doctor.analysis.names.vocabulary import WAIT_EVENT, rows_matching
from mfu_doctor.analysis.replay.deliveries import with_deliveries
from mfu_doctor.analysis.replay.host_waits import find_host_waits
from mfu_doctor.analysis.replay.links import link_use
from mfu_doctor.analysis.replay.model import MARK, STAND_IN, Boundary, Calls, Operations, Timeline
from mfu_doctor.analysis.replay.waits import Waits, find_device_waits
from mfu_doctor.analysis.views.activity import COMMUNICATION, Activity
from mfu_doctor.analysis.views.groups import groups, on_each
from mfu_doctor.analysis.views.host import Host
from mfu_doctor.analysis.views.launches import Launches
from mfu_doctor.analysis.views.step_windows import Steps
from mfu_doctor.analysis.views.steps import issue_time
from mfu_doctor.analysis.views.work import Work
from mfu_doctor.arrays.distinct import distinct, places
from mfu_doctor.trace import CALL_CATEGORIES, Trace

# Most steps that a replay walks: enough for a steady state, few enough that a long trace costs no more than a short one.
MAX_STEPS = 12


def build_timeline(work: Work, host: Host) -> Timeline:
    """Model steady steps of a run (at most MAX_STEPS, with one step before them to fill the queue).

    Args:
        work: device work, and the steps of the run; see `replayed_steps` for those that are modelled.
        host: what the host threads did, and waited for.
    """
    trace, activity, launches, steps = work.trace, work.activity, work.launches, work.steps
    replayed = replayed_steps(steps)
    first, last = replayed.start, replayed.stop - 1
    lead = max(first - 1, 0)
    lo, hi = int(steps.host_start[lead]), int(max(steps.host_end[last], steps.end[last]))
    if not activity.is_device:
        cpu = _cpu_timeline(activity, steps, (lead, first, last))
        return replace(cpu, calls=with_deliveries(cpu.calls, trace, host, (lo, hi)))
    issued = _after_waits(work, issue_time(trace, activity, launches), trace.events.end[host.blocking_rows])
    chosen = np.flatnonzero((activity.end > min(lo, int(steps.start[lead]))) & (activity.start <= hi))
    marks = [(MARK, lo)]
    if steps.opening[first] < 0:  # a step that host marks bound
        marks.append((MARK, int(steps.host_end[last])))
    stand_in = distinct(issued[chosen[(launches.call[chosen] < 0) & (issued[chosen] >= 0)]])
    marks += [(STAND_IN, int(at)) for at in stand_in]
    blocking = _between(trace, host.blocking_rows, lo, hi)
    calls = _call_table(trace, distinct(np.concatenate((launches.call[chosen], blocking))), marks, host)
    ops = _operations(trace, activity, _issuing_calls(activity, launches, chosen, (calls, issued)), chosen)
    waits_trace = rows_matching(trace, WAIT_EVENT, trace.rows(*CALL_CATEGORIES))
    waits = Waits(trace, activity, calls, ops, _between(trace, waits_trace, lo, hi), int(steps.start[first]))
    ops, modelled, released = find_device_waits(waits)
    calls, limit = find_host_waits(replace(waits, operations=ops), host.polls)
    calls = with_deliveries(calls, trace, host, (lo, hi))
    boundaries = _boundaries(steps, (first, last), calls, ops)
    unlinked = not (launches.call >= 0).any()
    measured, weight = _mean_step(steps, replayed)
    return Timeline(calls, ops, boundaries, modelled, released, measured, limit, weight=weight, without_calls=unlinked)


def _boundaries(steps: Steps, replayed: tuple[int, int], calls: Calls, ops: Operations) -> tuple[Boundary, ...]:
    """Where each replayed step begins and the last one ends."""
    first, last = replayed
    if steps.opening[first] < 0:
        host = np.flatnonzero(calls.row == MARK)
        return Boundary(call=int(host[0])), Boundary(call=int(host[-1]), drained=True)
    edges = [*steps.opening[first : last + 1].tolist(), int(steps.closing[last])]
    wanted = set(edges)
    position = {entry: i for i, entry in enumerate(ops.entry.tolist()) if entry in wanted}
    return tuple(Boundary(operation=position[e]) if e >= 0 else Boundary(drained=True) for e in edges)


def _mean_step(steps: Steps, replayed: slice) -> tuple[float, tuple[int, ...]]:
    """Mean length of the replayed steps, and how often each stands in it."""
    weight = replayed_weight(steps, replayed)
    return float((steps.duration * weight).sum() / weight.sum()), tuple(weight[replayed].tolist())


def replayed_weight(steps: Steps, replayed: slice) -> npt.NDArray[np.int64]:
    """How often each step stands in the mean of the replayed ones, shape (steps,)."""
    chosen = np.zeros(steps.count, np.bool_)
    chosen[replayed] = True
    return steps.weight_among(chosen)


def replayed_steps(steps: Steps) -> slice:
    """Indices of at most MAX_STEPS neighbouring steady steps: as many as there are, and the first that hold a long one if any do.

    If that long step stands late in a long run of steps, the ones before it are those that lead to it.
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([False], steps.steady, [False])).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(np.minimum(ends - starts, MAX_STEPS)))
    held = [i for i in range(len(starts)) if steps.long[starts[i] : ends[i]].any() and ends[i] - starts[i] > 1]
    if held:
        longest = max(held, key=lambda i: min(int(ends[i] - starts[i]), MAX_STEPS))
    first, stop = int(starts[longest]), int(ends[longest])
    long = np.flatnonzero(steps.long[first:stop])
    if len(long):
        first += max(int(long[0]) + 1 + MAX_STEPS // 2 - MAX_STEPS, 0)
    return slice(first, min(stop, first + MAX_STEPS))


def _between(trace: Trace, rows: npt.NDArray[np.int64], lo: int, hi: int) -> npt.NDArray[np.int64]:
    start = trace.events.start[rows]
    return rows[(start >= lo) & (start < hi)]


def _after_waits(work: Work, issued: npt.NDArray[np.int64], returned: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """When each operation was issued; one whose launch was not recorded, after the last wait of the host before it.

    That is so if the host came back from a wait when the operation's stream had nothing left: what it launches next starts
    then. With work on the stream the host's wait delays nothing.
    """
    activity, returned = work.activity, np.sort(returned)
    unknown = np.flatnonzero(work.launches.call < 0)
    if not len(unknown) or not len(returned):
        return issued
    at = np.searchsorted(returned, activity.start[unknown], side="right") - 1
    wait = np.where(at >= 0, returned[np.maximum(at, 0)], -1)
    free = np.full(activity.count, -1, np.int64)
    for _, mine in on_each(activity.track[unknown], activity.track):
        free[mine[1:]] = activity.end[mine[:-1]]
    later = (wait > free[unknown]) & (wait > issued[unknown])
    changed = issued.copy()
    changed[unknown[later]] = wait[later]
    return changed


def _call_table(trace: Trace, rows: npt.NDArray[np.int64], marks: list[tuple[int, int]], host: Host) -> Calls:
    rows = rows[rows >= 0]
    events = trace.events
    since, blocking = events.start[rows], places(host.blocking_rows, rows)
    since[blocking >= 0] = host.blocking_start[blocking[blocking >= 0]]
    at = np.array([time for _, time in marks], np.int64)
    row = np.concatenate((rows, np.array([kind for kind, _ in marks], np.int64)))
    start, end = np.concatenate((since, at)), np.concatenate((events.end[rows], at))
    thread = np.concatenate((events.track[rows].astype(np.int64), np.full(len(at), -1)))
    return _chain(row, start, end, thread)


def _chain(
    row: npt.NDArray[np.int64], start: npt.NDArray[np.int64], end: npt.NDArray[np.int64], thread: npt.NDArray[np.int64]
) -> Calls:
    """Order calls by start and link each to the call that ended last before it, and to the last one of its thread."""
    order = np.lexsort((-end, end > start, start))  # a step mark comes before the call that starts with the step
    row, start, end, thread = row[order], start[order], end[order], thread[order]
    by_end = np.argsort(end, kind="stable")
    position = np.searchsorted(end[by_end], start, side="right") - 1
    after = np.where(position >= 0, by_end[np.maximum(position, 0)], -1)
    index = np.arange(len(row))
    after = np.where(after >= index, index - 1, after)  # calls of no length at the same instant: in order
    own = np.full(len(row), -1, np.int64)
    for _, mine in groups(thread):
        own[mine[1:]] = mine[:-1]
    gap = np.where(after >= 0, start - end[np.maximum(after, 0)], 0).clip(min=0).astype(np.float64)
    cost = (end - start).astype(np.float64)
    return Calls(row, start, end, after, own, gap, cost, np.zeros(len(row)), ())


def _resumed(calls: Calls, collectives: npt.NDArray[np.int64]) -> Calls:
    """Link calls to the collective that their thread waited for, if it went on before that was written down as over.

    On a busy machine gloo's own thread writes the end milliseconds late. What ended last before the call is then the work before
    the wait, and the wait would be host work. So a call whose gap and a collective are mostly the same time waited for that one,
    and comes as long before the written end as it did.

    Args:
        calls: linked to what ended last before them.
        collectives: event rows of collectives that run on threads of their own.
    """
    known = np.flatnonzero(np.isin(calls.row, collectives))
    if not len(known):
        return calls
    known = known[np.argsort(calls.end[known], kind="stable")]
    place = np.searchsorted(calls.end[known], calls.start, side="right")
    under_way = known[np.minimum(place, len(known) - 1)]  # the first that ends after the call began
    begin, end = calls.start[under_way], calls.end[under_way]
    idle = calls.start - calls.gap.astype(np.int64)
    both = calls.start - np.maximum(begin, idle)
    either = end - np.minimum(begin, idle)
    waited = (place < len(known)) & (begin < calls.start) & (2 * both > either)
    after, slack = np.where(waited, under_way, calls.after), (calls.start - end).astype(np.float64)
    return replace(calls, after=after, gap=np.where(waited, slack, calls.gap))


def _issuing_calls(
    activity: Activity,
    launches: Launches,
    chosen: npt.NDArray[np.int64],
    known: tuple[Calls, npt.NDArray[np.int64]],
) -> npt.NDArray[np.int64]:
    """Index of the call that issued each chosen operation; -1 for those issued before the trace began.

    An operation whose call was not recorded was issued when its operator began; one without an operator, when the one before it
    on its stream was. Only what has nothing before it and began before the first recorded call was issued before the trace.
    """
    calls, issued = known
    wanted = launches.call[chosen]
    by_row = np.argsort(calls.row, kind="stable")
    at = np.minimum(np.searchsorted(calls.row[by_row], wanted), len(by_row) - 1)
    call = np.where((wanted >= 0) & (calls.row[by_row[at]] == wanted), by_row[at], -1)
    standing = np.flatnonzero(calls.row == STAND_IN)
    guessed = np.flatnonzero((wanted < 0) & (issued[chosen] >= 0))
    call[guessed] = standing[np.searchsorted(calls.start[standing], issued[chosen[guessed]])]
    for _, mine in groups(activity.track[chosen]):  # in order of their start
        if (call[mine] < 0).any():
            call[mine] = _filled(call[mine], activity.start[chosen[mine]], calls)
    return call


def _filled(call: npt.NDArray[np.int64], start: npt.NDArray[np.int64], calls: Calls) -> npt.NDArray[np.int64]:
    """The calls of one stream's operations with unknown ones taken from the operation before, or else from the clock."""
    index = np.maximum.accumulate(np.where(call >= 0, np.arange(len(call)), -1))
    filled = np.where(index >= 0, call[np.maximum(index, 0)], -1)
    leading = np.flatnonzero(index < 0)
    by_clock = np.searchsorted(calls.start, start[leading], side="right") - 1
    following = call[len(leading)] if len(leading) < len(call) else len(calls.start) - 1
    filled[leading] = np.minimum(by_clock, following)
    return filled


def _operations(
    trace: Trace, activity: Activity, call: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64]
) -> Operations:
    order = np.lexsort((activity.start[chosen], call))
    entry = chosen[order]
    zero = np.zeros(len(order))
    return Operations(
        entry=entry,
        call=call[order],
        start=activity.start[entry],
        stream=activity.track[entry].astype(np.int64),
        duration=(activity.end - activity.start)[entry].astype(np.float64),
        latency=zero,
        gap=zero.copy(),
        waits=(),
        link=link_use(trace, activity, entry),
    )


def _cpu_timeline(activity: Activity, steps: Steps, replayed: tuple[int, int, int]) -> Timeline:
    """A CPU-only run: operators' self time are the calls, there is no device to run ahead of."""
    lead, first, last = replayed
    lo, hi = int(steps.start[lead]), int(steps.end[last])
    keep = np.flatnonzero((activity.end > lo) & (activity.start < hi))
    at = np.append(steps.start[first : last + 1], steps.end[last])
    row = np.concatenate((activity.row[keep], np.full(len(at), MARK)))
    start = np.concatenate((activity.start[keep], at))
    end = np.concatenate((activity.end[keep], at))
    thread = np.concatenate((activity.track[keep].astype(np.int64), np.full(len(at), -1)))
    apart = (activity.kind == COMMUNICATION) & ~np.isin(activity.track, activity.track[activity.kind != COMMUNICATION])
    calls = _resumed(_chain(row, start, end, thread), activity.row[apart])
    none = np.zeros(0, np.int64)
    empty = np.zeros(0)
    ops = Operations(none, none, none, none, empty, empty, empty, (), none.astype(np.int8))
    boundaries = tuple(Boundary(call=int(i)) for i in np.flatnonzero(calls.row == MARK))
    measured, weight = _mean_step(steps, slice(first, last + 1))
    return Timeline(calls, ops, boundaries, ops, ops, measured, 0, weight=weight)
