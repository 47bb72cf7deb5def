"""Matrix products have fewer blocks than the device has multiprocessors, so most of it stands still.

What it measures
    Products whose grid (or number of tiles) is smaller than the number of multiprocessors, and their time.

Why it costs
    A block runs on one multiprocessor. With 16 blocks on 132 of them, seven eighths of the device do nothing.

How the gain is predicted
    A product takes what its FLOPs take at the efficiency of the larger products of this run (50 % where there are none),
    never below its memory traffic or 3 us. Low, mid and high: a quarter, half and all of the difference.

How to fix
    Join products that share an input, batch them (torch.bmm, grouped products), or raise the batch.

When it is wrong
    A small product that runs beside another kernel costs nothing. Split-K kernels have more blocks than tiles.

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
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_US, seconds

_USUAL_EFFICIENCY = 0.5  # of products that fill the device, where this run has none
# No kernel takes less, however small its work: launch and the first memory access.
LEAST_NS = 3 * NS_PER_US
_GAINED = (0.25, 0.5, 1.0)  # how much of the excess merging small products gives back


@rule(
    "small-matmul",
    "KE007",
    "matrix products are too small for the device",
    needs=(Need.DEVICE, Need.SHAPES, Need.PEAK),
    also=("wave-quantisation", "tile-quantisation", "gemm-efficiency"),
)
def small_matmul(run: Run) -> Outcome:
    """Judge products that use only part of the multiprocessors."""
    sms = run.peaks.sms
    if sms is None:
        return Skip("the number of multiprocessors of this device is unknown")
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
        summary=f"Products that fill {number(used)} of {sms} multiprocessors take {steady.share(spent)} of the step",
        fix="# join products that share an input (one Linear for q, k and v), or raise the batch",
        detail=f"the longest is M x N x K = {int(gemms.m[worst])} x {int(gemms.n[worst])} x {int(gemms.k[worst])} on "
        f"{int(blocks[worst])} blocks",
        change=_change(run, gemms, small),
        evidence=(
            shown("small products", steady.per_step(int((small & inside).sum())), "per step"),
            shown("blocks", used, "count"),
            shown("multiprocessors", sms, "count"),
            shown("device time", seconds(spent), "s"),
        ),
        place=run.places(gemms.op[[worst]])[0],
        effort="refactor",
    )


def _blocks(run: Run, gemms: Gemms) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Thread blocks of each product: its grid; for kernels that walk their tiles, the tiles; 0 where unknown."""
    out = np.zeros(len(gemms.entry), np.int64)
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
