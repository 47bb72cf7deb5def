"""Which of the ranks that were read belong to one run: what tells that a trace is of another one, it is named and left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from mfu_doctor.job.summary import RankSummary
from mfu_doctor.quantities import time_of
from mfu_doctor.result.job import RankLeftOut

# Times before 1990 are not times of day: such a trace has no base time, and its clock is like no other's.
_OF_DAY_NS = 631_152_000 * 1_000_000_000


class OfOneRun(Struct, frozen=True):
    """Ranks of one run in order, and those that are no part of it."""

    ranks: tuple[RankSummary, ...]
    left_out: tuple[RankLeftOut, ...]


def of_one_run(summaries: Sequence[RankSummary]) -> OfOneRun:
    """The ranks of the run that the newest trace is of: whoever runs again into the same folder wants to hear of the new run.

    A machine runs one training at a time on a device, so ranks of one host were recorded at the same time, by the same clock. The
    clocks of several hosts may differ by more than a step, so they are not compared here.

    Args:
        summaries: what was read, the newest first.
    """
    out: list[RankLeftOut] = []
    left = list(summaries)
    for why in (_no_rank, _other_size, _no_such_rank, _another_time, _twice):
        reasons = why(left)
        out += [_out(left[i], reason) for i, reason in reasons.items()]
        left = [summary for i, summary in enumerate(left) if i not in reasons]
    out.sort(key=lambda one: -1 if one.rank is None else one.rank)
    return OfOneRun(tuple(sorted(left, key=lambda summary: summary.rank or 0)), tuple(out))


Reasons = dict[int, str]
Why = Callable[[Sequence[RankSummary]], Reasons]


def _no_rank(ranks: Sequence[RankSummary]) -> Reasons:
    reason = "neither its name nor its content says which rank it is: name it rank0.json, rank1.json, ..."
    return {i: reason for i, summary in enumerate(ranks) if summary.rank is None}


def _other_size(ranks: Sequence[RankSummary]) -> Reasons:
    newest = _world(ranks)
    return {
        i: f"it is of a run of {summary.world_size} ranks, the newest trace is of one of {newest}"
        for i, summary in enumerate(ranks)
        if summary.world_size not in (None, newest)
    }


def _no_such_rank(ranks: Sequence[RankSummary]) -> Reasons:
    world = _world(ranks)
    return {
        i: f"a run of {world} ranks has no rank {summary.rank}"
        for i, summary in enumerate(ranks)
        if world is not None and summary.rank is not None and summary.rank >= world
    }


def _another_time(ranks: Sequence[RankSummary]) -> Reasons:
    """Ranks of a host that were recorded while the newest of it was not."""
    reasons: Reasons = {}
    newest: dict[str, RankSummary] = {}
    for i, summary in enumerate(ranks):
        if summary.host is None or not _has_times(summary):
            continue
        gap_ns = _gap_ns(summary, newest.setdefault(summary.host, summary))
        if gap_ns > 0:
            apart = f"it was recorded {time_of(gap_ns)} apart from the newest trace of {summary.host}"
            reasons[i] = f"{apart}: it is of another run"
    return reasons


def _twice(ranks: Sequence[RankSummary]) -> Reasons:
    first: dict[int | None, int] = {}
    for i, summary in enumerate(ranks):
        first.setdefault(summary.rank, i)
    return {
        i: f"another trace of rank {summary.rank} is read"
        for i, summary in enumerate(ranks)
        if first[summary.rank] != i
    }


def _world(ranks: Sequence[RankSummary]) -> int | None:
    """How many ranks the newest run has."""
    return next((summary.world_size for summary in ranks if summary.world_size is not None), None)


def _has_times(summary: RankSummary) -> bool:
    return len(summary.step_start) > 1 and int(summary.step_start[0]) > _OF_DAY_NS


def _gap_ns(one: RankSummary, other: RankSummary) -> int:
    """Nanoseconds between the recorded windows of two ranks; not positive if they overlap."""
    begin = max(int(one.step_start[0]), int(other.step_start[0]))
    return begin - min(int(one.step_start[-1]), int(other.step_start[-1]))


def _out(summary: RankSummary, reason: str) -> RankLeftOut:
    return RankLeftOut(reason=reason, rank=summary.rank, trace=summary.trace)
