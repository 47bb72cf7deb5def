"""The rows of the ranks and of their process groups."""

from __future__ import annotations

import numpy as np

from mfu_doctor.job.across.job import Job
from mfu_doctor.result.job import GroupRow, RankRow
from mfu_doctor.result.step import BUCKETS, RECORDED, TIMED, Breakdown, StepTime, mean_of, step_time_of
from mfu_doctor.units import NS_PER_S


def rank_rows(job: Job) -> tuple[RankRow, ...]:
    """One row for each rank that was read."""
    waited = waited_ns(job)
    waits_known = len(job.matched) > 0
    places = _places(job)
    rows = []
    for place, summary in enumerate(job.summaries):
        report = summary.report
        first = next(iter(report.failed), None)
        rows.append(
            RankRow(
                rank=job.ranks[place],
                trace=summary.trace,
                host=summary.host,
                device=report.device.name,
                device_kind=report.device.kind,
                group=places[place],
                step_s=report.step_time_s.stated if report.step_time_s is not None else None,
                mfu=report.mfu.value,
                breakdown=report.breakdown,
                wait_s=float(waited[0][place]) / job.second_ns if waits_known else None,
                waited_for_s=float(waited[1][place]) / job.second_ns,
                verdict=report.verdict.sentence if report.verdict is not None else "",
                finding=first.summary if first is not None else None,
                steps_s=tuple((np.diff(summary.step_start) / NS_PER_S).tolist()),
            )
        )
    return tuple(rows)


def waited_ns(
    job: Job,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Per judged step: what each rank waits for others, and what the others wait for it, the mean over them; shape (ranks,)."""
    waits, awaited = np.zeros(len(job)), np.zeros(len(job))
    steps = int(job.steady.sum())
    if not steps or not len(job.matched):
        return waits, awaited
    judged = np.append(job.steady, False)[job.step]  # -1 is none
    rows = job.matched.row[judged[job.matched.of_row]]
    np.add.at(waits, job.table.rank[rows], job.waits.counted[rows])
    late = job.lateness
    np.add.at(awaited, job.table.rank[late.row[late.cause[judged]]], late.waited[judged])
    return waits / steps, awaited / steps / max(len(job) - 1, 1)


def _places(job: Job) -> list[dict[str, int]]:
    """Where each rank is along each dimension that the program names: its place in its group, and its stage."""
    places: list[dict[str, int]] = [{} for _ in job.summaries]
    for group in job.table.groups:
        if group.description and group.size and 1 < group.size < (job.world_size or 0):
            for place, member in enumerate(group.members):
                places[member].setdefault(group.description, place)
    if job.slots.stages > 1:
        for rank, stage in enumerate(job.slots.stage.tolist()):
            places[rank]["pp"] = stage
    return places


def group_rows(job: Job) -> tuple[GroupRow, ...]:
    """One row for each process group."""
    return tuple(
        GroupRow(
            name=group.name,
            description=group.description,
            ranks=tuple(job.ranks[member] for member in group.members),
            complete=group.complete,
        )
        for group in job.table.groups
    )


def step_time(job: Job) -> StepTime | None:
    """The step of the job: of each step the mean over ranks."""
    stated = [one.report.step_time_s for one in job.summaries]
    known = [one for one in stated if one is not None]
    if not known:
        return None
    counts = {len(one.samples) for one in known}
    source = TIMED if all(one.source == TIMED for one in known) else RECORDED
    if len(counts) == 1 and counts != {0}:
        samples = np.mean([one.samples for one in known], axis=0).tolist()
    else:  # the ranks judge different steps
        samples = [one.stated for one in known]
    return step_time_of(samples, source, mean=job.step_s)


def mean_breakdown(job: Job) -> Breakdown:
    """The split of the mean over ranks."""
    return mean_of([one.report.breakdown for one in job.summaries])


def typical_rank(job: Job) -> int | None:
    """The rank whose split is nearest to the median of all."""
    each = np.array([[getattr(one.report.breakdown, name) for name in BUCKETS] for one in job.summaries])
    if not len(each):
        return None
    return job.ranks[int(np.abs(each - np.median(each, axis=0)).sum(axis=1).argmin())]
