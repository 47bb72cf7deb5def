"""What a reader may not rely on in a job's report: missing ranks, collectives that could not be matched, clocks, steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.words import ranks_named
from mfu_doctor.quantities import counted, share, time_of
from mfu_doctor.result.caveats import FIGURES, Caveat
from mfu_doctor.result.job import RankLeftOut

_MANY_UNMATCHED = 0.1  # of all collectives: with more, waits are of a part of them only
_MOST_LISTED = 1000  # missing ranks, one by one
_COARSE = 0.01  # of a step: with clocks that are known no better, waits are not either


def caveats_of(job: Job, left_out: Sequence[RankLeftOut]) -> tuple[Caveat, ...]:
    """Everything that limits a job's report, what spoils figures first."""
    found = [*_missing(job), *_unmatched(job), *_clocks(job), *_steps(job), *_replay(job), *_of_most(job)]
    found += [Caveat(kind="file", text=_about(one), spoils=None) for one in left_out]
    return tuple(sorted(found, key=lambda caveat: caveat.spoils is None))


def missing_ranks(job: Job) -> tuple[int, ...]:
    """Ranks of the world without a trace; of very many the first."""
    there = set(job.ranks)
    return tuple(islice((rank for rank in range(job.world_size or 0) if rank not in there), _MOST_LISTED))


def _count_missing(job: Job) -> int:
    world = job.world_size or 0
    return world - sum(rank < world for rank in job.ranks)


def _missing(job: Job) -> list[Caveat]:
    missing, count = missing_ranks(job), _count_missing(job)
    if not count:
        return []
    who = ranks_named(missing) if count == len(missing) else counted(count, "rank")
    are = "is" if count == 1 else "are"
    text = f"{who[:1].upper()}{who[1:]} of {job.world_size} {are} not there: what the others wait for them reads as transfer"
    return [Caveat(kind="missing-ranks", text=text, remedy="record every rank of the job", spoils=FIGURES)]


def _unmatched(job: Job) -> list[Caveat]:
    unmatched = job.matched.unmatched
    count, every = sum(unmatched.values()), len(job.table)
    if not every:
        return [
            Caveat(
                kind="no-collectives",
                text="No collective was recorded: who waits for whom is not known",
                spoils=FIGURES,
            )
        ]
    if not count:
        return []
    reason = max(unmatched, key=lambda why: unmatched[why])
    text = f"{share(count, every)} of the collectives could not be matched between ranks: {reason}"
    return [Caveat(kind="unmatched", text=text, spoils=FIGURES if count > _MANY_UNMATCHED * every else None)]


def _clocks(job: Job) -> list[Caveat]:
    clocks, resolution = job.clocks, job.clocks.resolution_ns
    apart = [rank for rank, tied in zip(job.ranks, clocks.tied, strict=True) if not tied]
    if apart:
        who = "the ranks" if len(apart) == len(job) else ranks_named(apart)
        text = f"No collective tells how the clocks of {who} lie to each other: they are taken as equal"
        return [Caveat(kind="clocks", text=text)]
    if resolution is not None and resolution > _COARSE * job.recorded_ns > 0:
        why = "Messages leave room of" if clocks.rooms else "Ranks leave the same collectives"
        text = f"{why} up to {time_of(resolution)} {'between the clocks' if clocks.rooms else 'apart'}"
        return [Caveat(kind="clocks", text=f"{text}: no wait is known better than that")]
    return []


def _steps(job: Job) -> list[Caveat]:
    numbers = {one.steps for one in job.summaries}
    common = set.intersection(*(set(steps) for steps in numbers)) if numbers else set()
    if len(numbers) < 2:
        return []
    text = (
        f"The ranks recorded different steps: {counted(len(common), 'step')} of {len(job.table.steps)} on all of them"
    )
    return [Caveat(kind="different-steps", text=text, spoils=None if common else FIGURES)]


def _replay(job: Job) -> list[Caveat]:
    alone = [rank for rank, one in zip(job.ranks, job.summaries, strict=True) if one.reach is None]
    if not alone:
        return []
    why = next(one.reach_reason for one in job.summaries if one.reach is None)
    text = (
        f"{ranks_named(alone)[:1].upper()}{ranks_named(alone)[1:]}: replayed from the collectives alone, because {why}"
    )
    return [Caveat(kind="replay", text=text)]


def _of_most(job: Job) -> list[Caveat]:
    """What spoils the figures of more than half of the ranks spoils those of the job: one step, start-up, dropped events."""
    told: dict[str, list[Caveat]] = {}
    for summary in job.summaries:
        for kind, caveat in {one.kind: one for one in summary.report.caveats if one.spoils is not None}.items():
            told.setdefault(kind, []).append(caveat)
    return [found[0] for found in told.values() if 2 * len(found) > len(job)]


def _about(left_out: RankLeftOut) -> str:
    who = left_out.trace or (f"rank {left_out.rank}" if left_out.rank is not None else "a file")
    return f"{who} is left out: {left_out.reason}"
