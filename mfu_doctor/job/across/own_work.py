"""What ranks do for themselves beyond each other, and whether that follows the work that each was given.

Work is counted (FLOPs), or known by the bytes that a rank puts into collectives. Where neither is known, computing that changes
from step to step by more than a machine does tells it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.table import UNKNOWN, Floats

# Work decides who is late if the two follow each other so well, over so many ranks and steps.
_FOLLOWS, _ENOUGH = 0.7, 6
# Without counted work: most of the lateness is computing, and that changes from step to step by this share of its mean. The same
# work takes the same time to within a tenth on a machine of its own, and a quarter where others use its cores.
_COMPUTE, _COMPUTED, _RESTLESS = "compute", 0.7, 0.3
# Kinds of which each rank puts in what its own tokens need.
_UNEVEN = ("alltoall", "allgather", "gather", "scatter")


def excess_ns(job: Job) -> Floats:
    """What each rank does for itself beyond the median rank of its stage, in each judged step; shape (ranks, judged steps)."""
    own = job.own_ns[:, job.steady]
    out = np.zeros_like(own)
    for stage in range(job.slots.stages):
        mine = job.slots.stage == stage
        if mine.any() and own.shape[1]:
            out[mine] = own[mine] - np.nanmedian(own[mine], axis=0)
    return np.nan_to_num(out)


def follows_work(job: Job) -> str | None:
    """Whether it changes with the work of a step who is slow: "FLOPs", "bytes", or None if it does not, or is not known."""
    for name, work in (("FLOPs", job.flops), ("bytes", given_bytes(job, *_UNEVEN))):
        if goes_with(job, work[:, job.steady], changing=True):
            return name
    return None


def goes_with(job: Job, work: Floats, *, changing: bool = False) -> bool:
    """Whether ranks that have more of this work in a judged step do more for themselves there.

    Args:
        job: the job.
        work: of each rank in each judged step, NaN or 0 where it is not known, shape (ranks, judged steps).
        changing: only what changes from step to step; what a rank always has more is no uneven work.
    """
    known = (work > 0).all(axis=0)
    if int(known.sum()) * len(job) < _ENOUGH:
        return False
    each = [excess_ns(job)[:, known], work[:, known] - np.median(work[:, known], axis=0)]
    if changing:
        each = [values - values.mean(axis=1, keepdims=True) for values in each]
    if min(float(values.std()) for values in each) == 0:
        return False
    return bool(np.corrcoef(each[0].ravel(), each[1].ravel())[0, 1] >= _FOLLOWS)


def computes_unevenly(job: Job, more_ns: Mapping[str, float]) -> str | None:
    """Whether computing makes ranks late, and changes between the steps of a rank by more than a machine does: "computing".

    Args:
        job: the job.
        more_ns: what takes longer on late ranks, by owner.
    """
    is_compute = np.array([owner.startswith(_COMPUTE) for owner in job.accounts.owners], np.bool_)
    more = sum(ns for owner, ns in more_ns.items() if owner.startswith(_COMPUTE))
    each = [
        steps[one.steady][:, is_compute].sum(axis=1)
        for steps, one in zip(job.accounts.step, job.summaries, strict=True)
    ]
    if more < _COMPUTED * sum(more_ns.values()) or min((len(one) for one in each), default=0) < 2:
        return None
    changes = [float(one.std() / one.mean()) if one.any() else 0.0 for one in each]
    return "computing" if float(np.median(changes)) >= _RESTLESS and not more <= 0 else None


def given_bytes(job: Job, *kinds: str) -> Floats:
    """What each rank puts into collectives of these kinds, in each step; 0 where that is none, or not known."""
    table = job.table
    out = np.zeros((len(job), len(table.steps)))
    rows = np.flatnonzero(table.is_kind(*kinds) & (table.size >= 0) & (table.step != UNKNOWN))
    np.add.at(out, (table.rank[rows], table.step[rows]), table.size[rows])
    return out
