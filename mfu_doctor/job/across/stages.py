"""The stages of a pipeline: what each does for itself, what they wait for each other, and how many micro-batches go through."""

from __future__ import annotations

import numpy as np

from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.table import SEND, TO_ONE, Floats


def stage_times(job: Job) -> Floats:
    """Nanoseconds that each stage does for itself in a judged step, the median over its ranks; shape (stages,)."""
    own = np.nan_to_num(job.own_ns[:, job.steady]).mean(axis=1)
    stage = job.slots.stage
    return np.array([np.median(own[stage == one]) if (stage == one).any() else 0.0 for one in range(job.slots.stages)])


def stage_waits(job: Job) -> float:
    """Nanoseconds per judged step that a rank waits in sends and receives, the mean over ranks."""
    table, steps = job.table, int(job.steady.sum())
    rows = np.flatnonzero(table.is_kind(*TO_ONE) & np.append(job.steady, False)[table.step])
    return float(job.waits.counted[rows].sum()) / max(steps, 1) / len(job)


def micro_batches(job: Job) -> float:
    """Messages from one stage to the next in a judged step; 0 if none are known."""
    table, steps = job.table, int(job.steady.sum())
    rows = np.flatnonzero(table.is_kind(SEND) & (table.peer >= 0) & np.append(job.steady, False)[table.step])
    stage = job.slots.stage
    rows = rows[stage[table.peer[rows]] == stage[table.rank[rows]] + 1]
    if not len(rows) or not steps:
        return 0.0
    _, count = np.unique(np.column_stack([table.rank[rows], table.peer[rows]]), axis=0, return_counts=True)
    return float(np.median(count)) / steps
