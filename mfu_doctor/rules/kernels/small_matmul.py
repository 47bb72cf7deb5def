"""Matmuls have fewer thread blocks than the GPU has SMs, so some SMs are idle.

What it measures
    The time of matmuls whose grid (or number of tiles) is smaller than the number of SMs.

Why it costs
    A thread block runs on one SM. With 16 blocks on 132 SMs, 88 % of the SMs are idle.

How the gain is predicted
    Ideal time = FLOPs / (peak x efficiency of the larger matmuls of this run; 50 % if there are none), but at least the time of
    the memory traffic and 3 us.
    Low: 25 % of the difference to the ideal time is saved.
    Mid: 50 % of it.
    High: all of it.

How to fix
    Combine matmuls that share an input, batch them (torch.bmm, grouped GEMM), or use a larger batch.

When it is wrong
    The rule is wrong if the small matmul overlaps with another kernel: then it costs nothing. Split-K kernels have more blocks
    than tiles.

References
    https://docs.nvidia.com/deeplearning/performance/dl-performance-matrix-multiplication/#wave-quant
"""

from __future__ import annotations

from math import prod

import numpy as np

from mfu_doctor.analysis.evidence.gemms import Gemms, gemms_of, reference_efficiency
from mfu_doctor.analysis.evidence.steady_steps import Mask, steady_of
from mfu_doctor.analysis.names.kernel_names import is_persistent, tile_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_US, seconds

_USUAL_EFFICIENCY = 0.5  # of matmuls that use all SMs, if this run has none
# No kernel takes less, however small its work: launch and the first memory access.
LEAST_NS = 3 * NS_PER_US
_GAINED = (0.25, 0.5, 1.0)  # share of the excess time that merging small matmuls saves


@rule(
    "small-matmul",
    "KE007",
    "matmuls are too small for the GPU",
    needs=(Need.DEVICE, Need.SHAPES, Need.PEAK),
    also=("wave-quantisation", "tile-quantisation", "gemm-efficiency"),
)
def small_matmul(run: Run) -> Outcome:
    """Judge matmuls that use only part of the SMs."""
    sms = run.peaks.sms
    if sms is None:
        return Skip("the number of SMs of this GPU is unknown")
    gemms = gemms_of(run)
    if gemms is None:
        return None
    steady = steady_of(run)
    blocks = _blocks(run, gemms)
    small = (blocks > 0) & (blocks < sms) & run.kernels.is_kind("matmul")[gemms.entry]
    inside = steady.entries(run)[gemms.entry]
    spent = steady.per_step(float(gemms.duration[small & inside].sum()))
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    worst = int(np.argmax(np.where(small & inside, gemms.duration, -1)))
    used = float(np.average(blocks[small & inside], weights=gemms.duration[small & inside]))
    return Finding(
        summary=f"Matmuls that use only {number(used)} of {sms} SMs take {steady.share(spent)} of the step",
        fix="# combine matmuls that share an input (one Linear for q, k and v), or use a larger batch",
        detail=f"the longest is M x N x K = {int(gemms.m[worst])} x {int(gemms.n[worst])} x {int(gemms.k[worst])} with "
        f"{int(blocks[worst])} thread blocks",
        decides=Ends(
            low="they close a quarter of the gap", high="larger ones reach the rates of the large matmuls here"
        ),
        change=_change(run, gemms, small),
        evidence=(
            shown("small matmuls", steady.per_step(int((small & inside).sum())), "per step"),
            shown("thread blocks", used, "count"),
            shown("SMs", sms, "count"),
            shown("device time", seconds(spent), "s"),
        ),
        place=run.places(gemms.op[[worst]])[0],
        effort="refactor",
    )


def _blocks(run: Run, gemms: Gemms) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Thread blocks of each matmul: its grid; for persistent kernels, the tiles; 0 if unknown."""
    out = np.zeros(len(gemms.entry))
    for i, row in enumerate(run.activity.row[gemms.entry].tolist()):
        name, args = run.trace.name_of(row), run.trace.args_of(row)
        tile = tile_of(name)
        if is_persistent(name):
            tiles = -(-int(gemms.m[i]) // tile[0]) * -(-int(gemms.n[i]) // tile[1]) if tile else 0
            out[i] = tiles * max(int(gemms.batch[i]), 1)
        elif args is not None and args.grid is not None:
            out[i] = prod(args.grid)
    return out


def _change(run: Run, gemms: Gemms, small: Mask) -> Change:
    usual, _ = reference_efficiency(gemms, ~small, _USUAL_EFFICIENCY)
    chosen = gemms.only(small)
    ideal = np.minimum(np.maximum(chosen.at(max(usual, 0.05)), LEAST_NS), chosen.duration)
    rows = run.activity.row[chosen.entry]
    ends = [chosen.duration - gained * (chosen.duration - ideal) for gained in _GAINED]
    return Change(*((SetDevice(rows, after.astype(np.int64)),) for after in ends))
