"""The questions that the job's replay is asked, as edits of it."""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.views.once import once
from mfu_doctor.devices.links import ONE_MACHINE, bus_bytes, link_rate
from mfu_doctor.job.across.edits import JobChange, JobEdit
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.slots import usual
from mfu_doctor.job.across.stages import stage_times
from mfu_doctor.job.across.table import Floats
from mfu_doctor.units import NS_PER_S

_REACHED = 0.8  # of the link by large messages: ring all-reduces of NCCL tests reach 0.7 to 0.8, its best kernels 0.9


@once
def like_the_others(job: Job, late: tuple[int, ...]) -> JobChange:
    """These ranks do no more for themselves than the others at the same place of the program.

    Low: not more than the slowest of the others. Mid and high: as much as the median of them.
    """
    is_late = np.isin(job.table.rank, late)
    middle = _less(job, usual(job.slots, ~is_late)) * is_late
    slowest = _less(job, usual(job.slots, ~is_late, at=1.0)) * is_late
    edit = JobEdit(saved=middle)
    return JobChange(JobEdit(saved=np.clip(slowest, 0.0, None)), edit, edit)


@once
def no_skew(job: Job) -> JobEdit:
    """Every rank does as much for itself as all do on average at the same place of the program."""
    everybody = np.ones(len(job.table), np.bool_)
    return JobEdit(saved=_less(job, usual(job.slots, everybody, mean=True)))


@once
def stages_alike(job: Job) -> JobEdit:
    """Every stage of the pipeline takes as long for its own work as the stages do on average."""
    stage, total = job.slots.stage, stage_times(job)
    share = np.divide(total.mean(), total, out=np.ones(len(total)), where=total > 0)
    return JobEdit(saved=job.slots.own * (1.0 - share[stage[job.table.rank]]))


def at_link_rate(job: Job) -> JobEdit | None:
    """Collectives inside a machine take what their bytes take over the link; None if no link is known, or none is slower."""
    table, transfer = job.table, job.replay.transfer.copy()
    rates = np.array([link_rate(one.report.device.name) or 0.0 for one in job.summaries])
    sizes = np.array([group.size or 0 for group in table.groups], np.int64)
    inside = np.array([job.is_in_one_machine(group) for group in table.groups], np.bool_)
    inside &= (sizes > 1) & (sizes <= ONE_MACHINE)
    rows = np.sort(job.matched.complete_rows)
    rows = rows[(rates[table.rank[rows]] > 0) & (table.size[rows] > 0) & inside[table.group[rows]]]
    for row in rows.tolist():
        moved = bus_bytes(table.kinds[table.kind[row]], float(table.size[row]), int(sizes[table.group[row]]))
        ideal = moved / (_REACHED * rates[table.rank[row]]) * NS_PER_S
        transfer[row] = min(transfer[row], ideal)
    return JobEdit(transfer=transfer) if (transfer < job.replay.transfer).any() else None


def _less(job: Job, then: Floats) -> Floats:
    """Nanoseconds less for itself before each row, shape (n,), if a rank has done so much when it comes to the rows that tell it.

    What is saved between two such rows is divided as its own work there is.
    """
    slots, rank = job.slots, job.table.rank
    saved = np.zeros(len(rank))
    told = np.flatnonzero(~np.isnan(then))
    if not len(told):
        return saved
    more = slots.done[told] - then[told]
    more -= np.where(np.diff(rank[told], prepend=-1) == 0, np.concatenate([[0.0], more[:-1]]), 0.0)
    rows = np.arange(int(told[-1]) + 1)
    until = np.searchsorted(told, rows)  # the next row that tells
    mine = (rank[told[until]] == rank[rows]) & (slots.done[rows] > 0)
    rows, until = rows[mine], until[mine]
    own = np.minimum(slots.own, slots.done)[rows].astype(np.float64)
    whole = np.bincount(until, own, len(told))
    share = np.divide(more, whole, out=np.zeros(len(told)), where=whole > 0)
    saved[rows] = own * np.minimum(share, 1.0)[until]
    return saved
