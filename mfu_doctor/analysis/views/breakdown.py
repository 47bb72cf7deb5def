"""The time breakdown of each step: every nanosecond has one owner, and the sum is exactly the step.

Priority: compute, then exposed communication, then exposed copies. The rest is idle time. It belongs to data loading if the main
thread was loading a batch, else to the cause that delayed the next operation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.views.activity import COMMUNICATION, COMPUTE, COPY, Activity
from mfu_doctor.analysis.views.host import Host
from mfu_doctor.analysis.views.launches import Launches, blocking_reads, longest_latency
from mfu_doctor.analysis.views.step_windows import Steps
from mfu_doctor.arrays.distinct import without
from mfu_doctor.arrays.intervals import EMPTY, Intervals, complement, union
from mfu_doctor.result.step import IDLE_CAUSES
from mfu_doctor.trace import Trace
from mfu_doctor.units import NS_PER_US

# A sync that returned so long before a gap still explains it: the host needs some time to launch again.
SYNC_REACH_NS = 50 * NS_PER_US


class Split(Struct, frozen=True):
    """The time of one step, or of several together, in nanoseconds; the five buckets sum to `total`, the causes to `idle`."""

    total: int
    compute: int
    communication: int
    memory_copy: int
    data_loading: int
    idle: int
    causes: dict[str, int]

    def of(self, owner: str) -> int:
        """A bucket or an idle cause."""
        return self.causes[owner] if owner in self.causes else int(getattr(self, owner))


class Breakdowns(Struct, frozen=True):
    """The time breakdown of every step window, and the interval sets of each owner over all steps."""

    steps: tuple[Split, ...]
    whole: Split  # of `count` mean steps together
    count: int
    owners: dict[str, Intervals]  # compute, communication, memory_copy, data_loading and each idle cause
    idle: Intervals  # device idle for any reason but data loading

    def mean_ns(self, *owners: str) -> float:
        """What these buckets or idle causes take of the mean step together, in nanoseconds."""
        return sum(self.whole.of(owner) for owner in owners) / self.count


def split_steps(trace: Trace, activity: Activity, launches: Launches, host: Host, steps: Steps) -> Breakdowns:
    """Split each step window exclusively.

    Args:
        trace: the trace.
        activity: device work.
        launches: launch call of each device operation (says whether the host was late).
        host: what the host threads did.
        steps: the windows.
    """
    lo, hi = int(steps.start.min()), int(steps.end.max())
    compute = activity.busy(COMPUTE).clip(lo, hi)
    communication = activity.busy(COMMUNICATION).clip(lo, hi) - compute
    copies = activity.busy(COPY).clip(lo, hi) - compute - communication
    gaps = complement(compute | communication | copies, lo, hi)
    causes = _causes(trace, activity, launches, host, gaps)
    owners = {"compute": compute, "communication": communication, "memory_copy": copies} | causes
    splits = tuple(_split(owners, int(a), int(b)) for a, b in zip(steps.start, steps.end, strict=True))
    weight: list[int] = steps.weight.tolist()
    whole = _together([(split, often) for split, often in zip(splits, weight, strict=True) if often])
    return Breakdowns(splits, whole, sum(weight), owners, gaps - causes["data_loading"])


def _together(splits: list[tuple[Split, int]]) -> Split:
    """All of these, each so often."""
    names = ("total", "compute", "communication", "memory_copy", "data_loading", "idle")
    summed = {name: sum(split.of(name) * often for split, often in splits) for name in names}
    return Split(**summed, causes={name: sum(s.causes[name] * often for s, often in splits) for name in IDLE_CAUSES})


def _split(owners: dict[str, Intervals], start: int, end: int) -> Split:
    inside = {name: where.clip(start, end).total_ns for name, where in owners.items()}
    causes = {name: inside[name] for name in IDLE_CAUSES}
    return Split(
        total=end - start,
        compute=inside["compute"],
        communication=inside["communication"],
        memory_copy=inside["memory_copy"],
        data_loading=inside["data_loading"],
        idle=sum(causes.values()),
        causes=causes,
    )


def _causes(trace: Trace, activity: Activity, launches: Launches, host: Host, gaps: Intervals) -> dict[str, Intervals]:
    """Owner of every idle nanosecond: data loading or one of IDLE_CAUSES, disjoint and complete."""
    owners = dict.fromkeys(IDLE_CAUSES, EMPTY)
    late, unknown = gaps, EMPTY
    if activity.is_device:
        issued, known, held = _issued_end(trace, activity, launches, gaps)
        unknown = _intervals(gaps.start[~known], gaps.end[~known])
        gaps = Intervals(gaps.start[known], gaps.end[known])
        issued, held = issued[known], held[known]
        late = _intervals(gaps.start, issued)
        owners["queue"] = _intervals(issued[held], gaps.end[held])
        latency = _intervals(issued[~held], gaps.end[~held])  # of a launch that an idle device waited for
    after_sync = _after_sync(*_waits(trace, activity, launches, host), late) if activity.is_device else EMPTY
    rest = late
    for name, where in (
        ("data_loading", host.fetch),
        ("compile", host.compile),
        ("allocator", host.allocator),
        ("gc", host.gc),
        ("host_compute", host.computing),
        ("sync", after_sync),
    ):
        owners[name] = rest & where
        rest = rest - where
    if activity.is_device:
        owners["launch"] = (rest & host.busy) | latency
        rest = rest - host.busy
        owners["sync"] = owners["sync"] | ((unknown & host.blocking) - host.fetch)
        owners["other"] = unknown - host.fetch - host.blocking
        owners["data_loading"] = owners["data_loading"] | (unknown & host.fetch)
    owners["python"] = rest
    return owners


def _intervals(start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> Intervals:
    keep = end > start
    return Intervals(start[keep], end[keep])


def _waits(
    trace: Trace, activity: Activity, launches: Launches, host: Host
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Start and end of every wait of the host for the device."""
    reads = without(blocking_reads(trace, activity, launches), host.blocking_rows)
    rows = np.concatenate((host.blocking_rows, reads))
    return np.concatenate((host.blocking_start, trace.events.start[reads])), trace.events.end[rows]


def _issued_end(
    trace: Trace, activity: Activity, launches: Launches, gaps: Intervals
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """When the host had issued the operation after each gap (inside it), whether that is known, and whether it was held then.

    That is when its launch call returned, or its operator if the trace has no launch call. After the last operation of the trace
    nothing more was issued, so the host was late until the end of the gap. If several operations start when a gap ends, the
    earliest issue time counts. An operation was held if it was issued before the gap, or longer ago than a launch takes.
    """
    following = np.searchsorted(activity.start, gaps.end, side="left")
    last = following >= activity.count
    following = np.minimum(following, activity.count - 1)
    row = np.where(launches.call[following] >= 0, launches.call[following], launches.op[following])
    ended = np.where(last, gaps.end, trace.events.end[np.maximum(row, 0)])
    issued = np.clip(ended, gaps.start, gaps.end)
    held = (issued == gaps.start) | (gaps.end - issued > longest_latency(launches.call)[following])
    return issued, last | (row >= 0), held


def _after_sync(start: npt.NDArray[np.int64], end: npt.NDArray[np.int64], late: Intervals) -> Intervals:
    """The part of the host's lateness that a blocking call explains.

    If the host was already waiting when the device became idle, all time until the next launch is caused by the wait (the queue
    has to be filled again). If the wait began while the device was idle, only the wait itself counts.
    """
    if not len(start) or not late.count:
        return EMPTY
    order = np.argsort(end, kind="stable")
    start, end = start[order], end[order]
    last = np.searchsorted(end, late.end, side="right") - 1  # last wait that returned before the launch
    known = np.maximum(last, 0)
    explains = (last >= 0) & (end[known] >= late.start - SYNC_REACH_NS)
    drained = explains & (start[known] <= late.start)
    whole = _intervals(late.start[drained], late.end[drained])
    return whole | (union(start, end) & late)
