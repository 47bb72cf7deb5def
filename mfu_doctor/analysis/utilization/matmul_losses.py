"""Why a matmul kernel takes longer than its FLOPs at peak: its time is divided among the causes, one after another.

In this order: the work at the best peak (achieved), recomputation, a dtype with a lower peak, too little arithmetic per byte
(memory-bound), tile quantization, wave quantization, a clock below its specification, and for the rest the kernel itself. No
term is larger than what remains, so the terms always sum to the time of the kernel.
"""

from __future__ import annotations

from math import ceil, prod

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.kernel_names import is_persistent, tile_of
from mfu_doctor.analysis.utilization.counted_work import CountedWork
from mfu_doctor.analysis.utilization.flops import CAUSAL, EXECUTED, SKIPPED
from mfu_doctor.analysis.views.kernels import DTYPE_CODES
from mfu_doctor.analysis.views.work import Work
from mfu_doctor.arrays.distinct import numbered_together
from mfu_doctor.facts import Facts
from mfu_doctor.units import MEGA, NS_PER_S

Floats = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

LOSSES = ("precision", "roofline", "tile", "wave", "clock", "kernel")
LARGE_TILE = 128 * 128  # one block of this size fills the registers of an SM; smaller ones share it
BUSY_UTILIZATION = 50.0  # percent; clocks are averaged over samples in which the device worked


class MatmulSplit(Struct, frozen=True):
    """Nanoseconds of each entry that bears FLOPs, arrays of shape (k,); the rows sum to its exclusive time."""

    entry: Int64  # index into `Activity`
    achieved: Floats  # model FLOPs (unmasked pairs) at the best peak
    recompute: Floats
    losses: dict[str, Floats]  # by LOSSES, each >= 0
    above_peak: Floats  # <= 0: the kernel was faster than the peak allows
    products: Floats  # the model's part of them alone, at the peak of its own dtype
    at_own_peak: Floats  # least time at the peak of its own dtype and at full bandwidth


def split_matmuls(counted: CountedWork, ideal: dict[str | None, float], tau: Floats) -> MatmulSplit:
    """Split the exclusive time of every entry that bears FLOPs.

    Args:
        counted: the work of the run with its FLOPs and traffic.
        ideal: the peak that each dtype is measured against (`MfuResult.ideal_peaks`, not empty).
        tau: exclusive nanoseconds of each entry of `Activity` in the steady steps, each as often as it counts.
    """
    count, peaks = counted.flops, counted.peaks
    entry = np.flatnonzero((count.owner >= 0) & (tau > 0))
    inside = _part_inside(counted.work, entry)
    causal = count.per_entry(CAUSAL)[entry] * inside
    recompute = (count.per_entry(EXECUTED) - count.per_entry(SKIPPED))[entry] * inside - causal
    code = count.dtype[count.owner[entry]]
    best = np.array([ideal[d] for d in DTYPE_CODES])[code] / NS_PER_S  # FLOP per ns
    own = np.array([peaks.of(d) or ideal[d] for d in DTYPE_CODES])[code] / NS_PER_S
    work = causal + recompute
    compute = work / own
    traffic = np.zeros(len(entry))
    if peaks.bandwidth is not None:
        traffic = np.nan_to_num(counted.least_bytes[entry] * inside) / peaks.bandwidth * NS_PER_S
    tile, wave = _efficiencies(counted, entry)
    wanted = (
        compute - work / best,
        np.maximum(traffic - compute, 0.0),
        compute * (1 / tile - 1),
        compute / tile * (1 / wave - 1),
        compute / tile / wave * (_clock_ratio(counted.work.trace.facts, peaks.boost_hz) - 1),
    )
    left = tau[entry] - work / best
    above = np.minimum(left, 0.0)
    left = np.maximum(left, 0.0)
    losses: dict[str, Floats] = {}
    for name, want in zip(LOSSES, wanted, strict=False):
        losses[name] = np.minimum(np.maximum(want, 0.0), left)
        left = left - losses[name]
    losses["kernel"] = left
    roofline = np.minimum(np.maximum(compute, traffic), tau[entry])
    return MatmulSplit(entry, causal / best, recompute / best, losses, above, causal / own, roofline)


def _part_inside(work: Work, entry: Int64) -> Floats:
    """Part of each entry that lies in the steady steps, as often as these count."""
    lo, hi = work.activity.start[entry], work.activity.end[entry]
    part: Floats = work.steps.overlap(lo, hi) / np.maximum(hi - lo, 1)
    return part


def _efficiencies(counted: CountedWork, entry: Int64) -> tuple[Floats, Floats]:
    """Tile and wave efficiency of each entry, 1 if its name or its shape does not say."""
    count, trace = counted.flops, counted.work.trace
    rows = counted.work.activity.row[entry]
    cost = count.ops.cost[count.owner[entry]]
    keys = trace.events.name[rows], cost, trace.events.args[rows]
    first, which = numbered_together(*keys)
    pairs = [_efficiency(counted, *key) for key in zip(*(column[first].tolist() for column in keys), strict=True)]
    table = np.array(pairs, np.float64).reshape(-1, 2)[which]
    return table[:, 0], table[:, 1]


def _efficiency(counted: CountedWork, name: int, cost: int, args: int) -> tuple[float, float]:
    trace = counted.work.trace
    text, gemm = trace.names[name], counted.flops.ops.costs[cost].gemm
    tile = tile_of(text)
    if gemm is None or tile is None or not counted.work.activity.is_device:
        return 1.0, 1.0
    grid = trace.args[args].grid if args >= 0 else None
    launched = prod(grid) if grid is not None and not is_persistent(text) else 0
    filled, blocks = tile_efficiency(gemm, tile)
    one_each = is_persistent(text) or tile[0] * tile[1] >= LARGE_TILE
    return filled, wave_efficiency(max(blocks, launched), counted.peaks.sms, one_each=one_each)


def tile_efficiency(gemm: tuple[int, int, int, int], tile: tuple[int, int]) -> tuple[float, int]:
    """Share of the tiles' area that lies on the matrix, and the number of tiles.

    Libraries compute the matmul or its transpose; the orientation that wastes less is assumed. A matrix without
    elements wastes nothing.
    """
    batch, m, n, _ = gemm
    if not m * n:
        return 1.0, 0

    def counted(rows: int, columns: int) -> int:
        return ceil(m / rows) * ceil(n / columns)

    blocks = min(counted(*tile), counted(*tile[::-1]))
    return m * n / (blocks * tile[0] * tile[1]), blocks * batch


def wave_efficiency(blocks: int, multiprocessors: int | None, *, one_each: bool) -> float:
    """Share of the SMs that have a block, averaged over the waves.

    If several blocks share an SM, their number is not in a trace, so only an underfilled device is counted.
    """
    if not multiprocessors or not blocks:
        return 1.0
    waves = ceil(blocks / multiprocessors) if one_each else 1
    return min(blocks / (multiprocessors * waves), 1.0)


def _clock_ratio(facts: Facts | None, boost_hz: float | None) -> float:
    """Specified clock over the mean clock of busy samples; 1 if clocks were not sampled or were not lower."""
    if facts is None or not boost_hz:
        return 1.0
    clocks = [
        mhz
        for device in facts.samples
        for mhz, busy in zip(device.sm_mhz, device.util_gpu, strict=False)
        if mhz and busy is not None and busy >= BUSY_UTILIZATION
    ]
    if not clocks:
        return 1.0
    return max(boost_hz / (sum(clocks) / len(clocks) * MEGA), 1.0)
