"""Products in fp32 run on the CUDA cores of a GPU whose tensor cores could take them as TF32.

What it measures
    The device time of fp32 products whose kernels are not TF32 ones, on a device with a TF32 peak, and the precision setting
    that a live capture saw.

Why it costs
    TF32 keeps fp32's range with 10 bits of mantissa and runs on tensor cores: 8 times the fp32 rate on an A100. It is off by
    default for matrix products (and on for convolutions).

How the gain is predicted
    Each product takes its FLOPs over the TF32 peak at 80 % of today's efficiency, at least the root of the ratio faster (low);
    80 % of the peak (high). Without FLOPs only the root of the ratio is used. Replay gives the step.

How to fix
    torch.set_float32_matmul_precision("high"), one line before training.

When it is wrong
    Where 10 bits of mantissa are too few: iterative solvers, some physics. bf16 autocast gains more where it is acceptable.

References
    https://pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.activity import COMPUTE
from mfu_doctor.analysis.edits import Change, SetDevice
from mfu_doctor.analysis.flops import EXECUTED
from mfu_doctor.analysis.kernels import DTYPE_CODE
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.steady import steady_of
from mfu_doctor.phrasing import share
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.units import NS_PER_S, seconds

# TF32 must be this much faster than fp32 to be worth the change; GeForce cards run it at fp32's rate.
FASTER = 1.5
# Below this share of the step fp32 products are a remainder.
SEEN_SHARE = 0.01
_KEPT_EFFICIENCY, _BEST_EFFICIENCY = 0.8, 0.8


@rule("tf32-off", "KE002", "fp32 products leave the tensor cores idle", needs=("device", "peak"))
def tf32_off(run: Run) -> Outcome:
    """Judge fp32 products on a device with TF32."""
    fp32, tf32 = run.peaks.of("fp32"), run.peaks.of("tf32")
    if fp32 is None or tf32 is None or tf32 < FASTER * fp32:
        return None
    mask = (run.activity.kind == COMPUTE) & run.kernels.matmul_like & (run.kernels.dtype == DTYPE_CODE["fp32"])
    steady = steady_of(run)
    length = (run.activity.end - run.activity.start).astype(np.float64)
    spent = steady.per_step(float(length[mask & steady.entries(run)].sum()))
    if spent < SEEN_SHARE * steady.step_ns:
        return None
    precision = run.facts.precision if run.facts is not None else None
    setting = precision.float32_matmul_precision if precision is not None else None
    return Finding(
        summary=f"fp32 products on CUDA cores take {share(spent, steady.step_ns)} of the step",
        fix='torch.set_float32_matmul_precision("high")',
        change=_change(run, mask, length, (fp32, tf32)),
        detail=f'float32_matmul_precision is "{setting}"' if setting else None,
        evidence=(
            shown("fp32 products", seconds(spent), "s"),
            shown("fp32 peak", fp32, "FLOP/s"),
            shown("TF32 peak", tf32, "FLOP/s"),
        ),
        effort="line",
        risk="rounding",
        symptom_of=("fp32-matmul",),
    )


def _change(
    run: Run,
    mask: np.ndarray[tuple[int], np.dtype[np.bool_]],
    length: np.ndarray[tuple[int], np.dtype[np.float64]],
    peaks: tuple[float, float],
) -> Change:
    fp32, tf32 = peaks
    flops, now, rows = run.flops.per_entry(EXECUTED)[mask], length[mask], run.activity.row[mask]
    by_root = now / np.sqrt(tf32 / fp32)
    efficiency = np.clip(flops / np.maximum(now, 1.0) * NS_PER_S / fp32, 1e-3, 1.0)
    kept = np.where(flops > 0, flops / tf32 * NS_PER_S / (_KEPT_EFFICIENCY * efficiency), by_root)
    best = np.where(flops > 0, flops / (_BEST_EFFICIENCY * tf32) * NS_PER_S, by_root)

    def after(duration: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[SetDevice]:
        return (SetDevice(rows, np.minimum(duration, now).astype(np.int64)),)

    return Change(after(by_root), after(kept), after(best))
