"""What one rank tells the job: its report, its collectives, the account of its time between them, and its replay in small.

It is made where the trace is and travels to where the job is joined, so it holds no event: about 100 kB for a hundred
collectives. All of it can be pickled. Times are integer nanoseconds since 1970 of the rank's own clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mfu_doctor.result.report import Report

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Group:
    """A process group as one rank sees it."""

    name: str  # "" if the trace does not say
    description: str | None = None
    ranks: tuple[int, ...] | None = None  # None: not said, or cut short in the trace
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Collectives:
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


@dataclass(frozen=True, slots=True)
class Ledger:
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


@dataclass(frozen=True, slots=True)
class Reach:
    """The replay of a rank reduced to its collectives: each point is reached at the latest of a few earlier ends plus a delay.

    Points are the n collectives in the order of `Collectives`, then the k + 1 edges of the replayed steps. Point p is reached at
    max(since_ns[p], max over i in [pointer[p], pointer[p+1]) of end of collective source[i] + delay_ns[i]); a collective's own
    end is its arrival (this point) plus what it waits and transfers, which only the job knows. Dominated sources are left out.

    Attributes:
        since_ns: earliest from the begin of the replay if no collective took any time, shape (n + k + 1,).
        pointer: shape (n + k + 2,).
        source: index of a collective, each smaller than the point.
        delay_ns: shape of `source`.
        inside: whether each collective is part of the replay, shape (n,); others are as recorded.
        weight: how often each of the k steps counts in the mean.
        begin: what `since_ns` counts from, as a time of the rank's clock: only so can two ranks be replayed together.
        edge: when each of the k + 1 edges was in the recording, shape (k + 1,): what the unchanged replay must reproduce.
    """

    since_ns: Floats
    pointer: Ints
    source: Ints
    delay_ns: Floats
    inside: npt.NDArray[np.bool_]
    weight: tuple[int, ...]
    begin: int
    edge: Ints


@dataclass(frozen=True, slots=True)
class Mended:
    """The replay with one of the rank's own findings mended, at the low, middle and high end of its saving."""

    rule: str
    low: Reach
    mid: Reach
    high: Reach


@dataclass(frozen=True, slots=True)
class RankSummary:
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
        flops: model FLOP of each step window, NaN if not counted, shape (steps,).
        options: settings that may differ between ranks: versions, environment, precision, threads, ...
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
