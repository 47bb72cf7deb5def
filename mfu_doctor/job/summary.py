"""What one rank tells the job: its report, its collectives, the account of its time between them, and its replay in small.

It is made where the trace is and travels to where the job is joined, so it holds no event: about 100 kB for a hundred
collectives. All of it can be pickled. Times are integer nanoseconds since 1970 of the rank's own clock.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.replay.busiest import Busy
from mfu_doctor.result.report import Report

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Group(Struct, frozen=True):
    """A process group as one rank sees it. Without a name it is told from others by what runs it: a stream, or threads."""

    name: str  # "" if the trace does not say
    description: str | None = None
    ranks: tuple[int, ...] | None = None  # None: not said, or cut short in the trace
    size: int | None = None


class Collectives(Struct, frozen=True):
    """The collectives of a rank in order of their arrival, columns of shape (n,).

    Attributes:
        group: index into `groups`.
        groups: the process groups that occur.
        kind: "allreduce", "alltoall", "send", "recv", "barrier", ...
        sequence: sequence number in the group, -1 if the trace has none.
        order: how many of the same group came before it on this rank.
        size: bytes that this rank puts in, -1 if unknown.
        peer: rank of the other end of a send or receive, -1 for all others or if unknown.
        arrive: when this rank was there: begin of the kernel, or of the span of gloo.
        end: when it left.
        exposed: nanoseconds of it in which nothing was computed.
        step: index of the step window that it arrived in, -1 outside.
    """

    group: Ints
    groups: tuple[Group, ...]
    kind: tuple[str, ...]
    sequence: Ints
    order: Ints
    size: Ints
    peer: Ints
    arrive: Ints
    end: Ints
    exposed: Ints
    step: Ints

    def __len__(self) -> int:
        return len(self.arrive)


class Ledger(Struct, frozen=True):
    """Where this rank's time went up to each arrival and each end, so that the split of any part between two is a difference.

    Every nanosecond has one owner, so a difference sums to the time between the two points. The owners are those of a
    breakdown, with computing by class of kernel ("compute: matmul") and exposed communication by group ("communication: dp").

    Attributes:
        owners: names, shape (o,).
        at_arrival: nanoseconds of each owner from the begin of the window to each arrival, shape (n, o).
        at_end: the same to each end.
        at_step: the same to the begin of each step window and the end of the last, shape (steps + 1, o).
    """

    owners: tuple[str, ...]
    at_arrival: Ints
    at_end: Ints
    at_step: Ints


class Reach(Struct, frozen=True):
    """The replay of a rank reduced to its collectives: each point is reached at the latest of a few earlier ones plus a delay.

    A point is where the rank arrives at a collective, where a replayed step begins or the last one ends, or a relay: a moment on
    which many later points depend. Point p is reached at

        max(since_ns[p], max over i in [pointer[p], pointer[p + 1]) of left[source[i]] + delay_ns[i])

    and left when it is reached, or if it is a collective when that ends, which only the job knows. Each point comes after its
    sources. It needs no other point before it: ranks may come to collectives of different groups in different orders.

    Attributes:
        since_ns: earliest from the begin of the replay if no collective took any time, shape (p,).
        pointer: shape (p + 1,).
        source: earlier points.
        delay_ns: shape of `source`.
        collective: which collective each point is, an index into `Collectives`; -1 for others; shape (p,).
        step: the points at which the k replayed steps begin, and the last one ends, shape (k + 1,).
        inside: whether each collective is part of the replay, shape (n,); others are as recorded.
        lasts_ns: how long each collective takes in this rank's own replay, waiting included, shape (n,). It is less than recorded
            where the profiler's time is taken out. If each lasts so long, the points are those of that replay (`alone`).
        weight: how often each of the k steps counts in the mean.
        measured_ns: mean of the replayed steps as measured, without the profiler's time if that is known: savings are relative
            to it, and the unchanged replay must reproduce it.
        second_ns: nanoseconds of the replay in one second of the run as the report states it.
        begin: what `since_ns` counts from, as a time of the rank's clock: only so can two ranks be replayed together.
        edge: when each of the k + 1 edges was in the recording, the profiler's time included, shape (k + 1,).
        busy: what each stream has to do, its collectives apart; None: no device is replayed.
    """

    since_ns: Floats
    pointer: Ints
    source: Ints
    delay_ns: Floats
    collective: Ints
    step: Ints
    inside: npt.NDArray[np.bool_]
    lasts_ns: Floats
    weight: tuple[int, ...]
    measured_ns: float
    second_ns: float
    begin: int
    edge: Ints
    busy: Busy | None = None

    def alone(self, lasts_ns: Floats) -> Floats:
        """When each point is reached if collectives last so long, whatever other ranks do; nanoseconds from `begin`."""
        at = self.since_ns.copy()
        left = self.since_ns.copy()
        for p, which in enumerate(self.collective.tolist()):
            mine = slice(self.pointer[p], self.pointer[p + 1])
            at[p] = (left[self.source[mine]] + self.delay_ns[mine]).max(initial=at[p])
            left[p] = at[p] if which < 0 else at[p] + lasts_ns[which]
        return at

    def mean_step_ns(self, at: Floats) -> float:
        """The mean replayed step if points are reached at these times."""
        return float((np.diff(at[self.step]) * self.weight).sum() / sum(self.weight))


class Mended(Struct, frozen=True):
    """The replay with one of the rank's own findings mended, at the low, middle and high end of its saving."""

    rule: str
    low: Reach
    mid: Reach
    high: Reach


class Cores(Struct, frozen=True):
    """What a rank had of the cores of its processor, which it may share with other ranks.

    Attributes:
        operators: owners of the ledger that are operators on the processor; none where a device runs them.
        operators_held_up_ns: nanoseconds of a judged step for which they took longer than in the steps in which each was quick,
            or for which training stood in line for a core, whichever is more; 0 if nothing tells.
        host: the other owners that need a core.
        host_held_up_ns: nanoseconds of a judged step for which training stood in line for a core; 0 if that was not recorded.
        needed_s: seconds of a step without the profiler in which training had a core or stood in line for one; None if that was
            not recorded.
    """

    operators: tuple[str, ...] = ()
    operators_held_up_ns: float = 0.0
    host: tuple[str, ...] = ()
    host_held_up_ns: float = 0.0
    needed_s: float | None = None


class RankSummary(Struct, frozen=True):
    """One rank, ready to be joined.

    Attributes:
        rank: its number in the world; None if nothing tells.
        world_size: ranks of the job; None if nothing tells.
        trace: name of its file to show.
        host: the machine that it ran on; None if nothing tells.
        report: its own report, without the drawing.
        steps: numbers of its step windows.
        step_start: begin of each step window, and end of the last, shape (steps + 1,).
        steady: which of them are judged, shape (steps,).
        collectives: its collectives.
        ledger: where its time went between them.
        reach: its replay; None with `reach_reason`.
        transfer_ns: what each collective takes at least once all are there, as far as this rank alone tells, shape (n,).
        mended: its findings, as changes of the replay.
        flops: model FLOP of each step window, shape (steps,). NaN if not counted, or if only one step was recorded with shapes:
            how steps differ is then not known.
        options: settings that may differ between ranks: versions, environment, precision, threads, ...
        cores: what it had of the cores.
    """

    rank: int | None
    world_size: int | None
    trace: str
    host: str | None
    report: Report
    steps: tuple[int, ...]
    step_start: Ints
    steady: npt.NDArray[np.bool_]
    collectives: Collectives
    ledger: Ledger
    reach: Reach | None
    reach_reason: str | None
    transfer_ns: Floats
    mended: tuple[Mended, ...]
    flops: Floats
    options: dict[str, str]
    cores: Cores = Cores()
