"""Operators that a matmul could stand for, with their backward: what they take now, and what matmuls take instead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import inherited, of_events
from mfu_doctor.analysis.evidence.backward import maker_of, node_calls
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows
from mfu_doctor.analysis.replay.edits import MergeLaunches
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.analysis.views.kernels import DTYPE_CODE
from mfu_doctor.arrays.intervals import EMPTY
from mfu_doctor.trace import Category
from mfu_doctor.units import NS_PER_S

Floats = npt.NDArray[np.float64]

# Where `usual_rates` has none.
NO_RATES = "how fast matmuls are here is unknown: no matmul was counted, and the peak is unknown (--peak-flops)"
# Backward is a matmul for the gradient of each operand.
_BACKWARD = 2.0
_CAUTIOUS = 0.5  # low end: share of the mean rate of the other matmuls
_OF_PEAK = 0.5  # share of the peak that matmuls reach where this run has none


class Replaced(Struct, frozen=True):
    """Operators of forward that one matmul could stand for, and its FLOP and the bytes that it moves at least."""

    rows: tuple[int, ...]
    flops: float
    bytes: float


class AsMatmuls(Struct, frozen=True):
    """Such operators of all steps, with their work: of each its forward and its backward is a group.

    Attributes:
        mask: all their entries of the activity table, shape (n,).
        entry, group: one entry of each event (index into the activity table), and the number of its group, shape (k,).
        now_ns: what each group takes without recording, shape (groups,).
        flops, bytes: what matmuls need instead, shape (groups,).
    """

    mask: Mask
    entry: Rows
    group: Rows
    now_ns: Floats
    flops: Floats
    bytes: Floats

    def edit(self, run: Run, rate: float, times: float = 1.0) -> tuple[MergeLaunches]:
        """Each group as matmuls at this many FLOP/s that move the bytes so many times; never more than it takes now."""
        bandwidth = run.peaks.bandwidth
        moving = times * self.bytes / bandwidth * NS_PER_S if bandwidth else np.zeros(len(self.bytes))
        after = np.minimum(np.maximum(self.flops / rate * NS_PER_S, moving), self.now_ns).astype(np.int64)
        return (MergeLaunches(run.activity.row[self.entry], self.group, after, EMPTY, 1.0),)


def as_matmuls_of(run: Run, found: Sequence[Replaced]) -> AsMatmuls | None:
    """What these are now, forward and backward, and what their matmuls must do; None if they did no work."""
    number = np.zeros(len(run.trace.events) + 1)  # the last place stands for "no maker"
    for at, one in enumerate(found):
        number[list(one.rows)] = 1 + at
    calls = node_calls(run, run.trace.rows(Category.CPU_OP))
    made = inherited(run, maker_of(run, calls), number)
    number[calls[made > 0]] = made[made > 0] + len(found)
    group = inherited(run, run.launches.op, number).astype(np.int64) - 1
    mask = (group >= 0) & (run.activity.kind == COMPUTE)
    if not mask.any():
        return None
    entries = np.flatnonzero(mask)
    _, first = np.unique(run.activity.row[entries], return_index=True)  # on a CPU an operator has several stretches
    entry = entries[first]
    which, of_entry = np.unique(group[entry], return_inverse=True)
    passes = np.where(which >= len(found), _BACKWARD, 1.0)
    flops, moved = (
        np.array(each)[which % len(found)] * passes for each in zip(*((x.flops, x.bytes) for x in found), strict=True)
    )
    now = np.bincount(of_entry, of_events(run, entry, run.unrecorded_ns)).astype(np.float64)
    return AsMatmuls(mask, entry, of_entry.astype(np.int64), now, flops, moved)


def usual_rates(run: Run, dtype: str) -> tuple[float, float, float] | None:
    """FLOP/s of the run's matmuls of this dtype: low, mid, high; None if nothing tells."""
    flops, length = run.flops.per_entry(EXECUTED), run.unrecorded_ns
    known = run.kernels.matmul_like & (flops > 0) & (length > 0)
    known &= run.kernels.dtype == DTYPE_CODE[dtype]
    peak = run.peaks.of(dtype)
    if known.any():
        mean = float(flops[known].sum() / length[known].sum()) * NS_PER_S
        best = float((flops[known] / length[known]).max()) * NS_PER_S
        return _CAUTIOUS * mean, mean, best if peak is None else max(min(best, peak), mean)
    return None if peak is None else (_CAUTIOUS * _OF_PEAK * peak, _OF_PEAK * peak, peak)
