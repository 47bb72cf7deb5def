"""fp32 matmuls run on CUDA cores although the tensor cores of this GPU support TF32.

What it measures
    The device time of fp32 matmuls whose kernels do not use TF32, on a device with a TF32 peak. If mfu_doctor.profile() recorded
    that TF32 is already enabled for matmuls or for convolutions, these are excluded.

Why it costs
    TF32 has the range of fp32 with 10 bits of mantissa, and runs on tensor cores: 8 times the fp32 rate on an A100. It is off by
    default for matmuls (and on for convolutions).

How the gain is predicted
    Each matmul takes FLOPs / (TF32 peak x efficiency), but at least bytes / bandwidth.
    Low: only the compute part becomes faster, at most by the square root of the ratio of the peaks.
    Mid: 80 % of the current efficiency.
    High: 80 % efficiency.
    If the FLOPs are unknown, all three estimates divide the time by this square root, and the finding is a rough estimate.
    Replay gives the new step time.

How to fix
    torch.set_float32_matmul_precision("high"), one line before training. For convolutions torch.backends.cudnn.allow_tf32 = True,
    if it was disabled.

When it is wrong
    The rule is wrong if 10 bits of mantissa are too few (iterative solvers, some physics models). bf16 autocast gains more if the
    model accepts it.

References
    https://pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.evidence.digits import factorized
from mfu_doctor.analysis.evidence.steady_steps import Mask, steady_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.analysis.views.kernels import DTYPE_CODE
from mfu_doctor.facts import PrecisionFacts
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_S, seconds

# TF32 must be this much faster than fp32 to be worth the change; GeForce cards run it at fp32's rate.
FASTER = 1.5
_KEPT_EFFICIENCY, _BEST_EFFICIENCY = 0.8, 0.8


@rule(
    "tf32-off",
    "KE002",
    "fp32 matmuls do not use the tensor cores",
    needs=(Need.DEVICE, Need.PEAK),
    also=("tf32", "float32-matmul-precision"),
)
def tf32_off(run: Run) -> Outcome:
    """Judge fp32 matmuls on a device with TF32."""
    fp32, tf32 = run.peaks.of("fp32"), run.peaks.of("tf32")
    if fp32 is None or tf32 is None or tf32 < FASTER * fp32:
        return None
    precision = run.facts.precision if run.facts is not None else None
    mask = _left_in_fp32(run, precision)
    steady = steady_of(run)
    length = (run.activity.end - run.activity.start).astype(np.float64)
    spent = steady.per_step(float(length[mask & steady.entries(run)].sum()))
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    setting = precision.float32_matmul_precision if precision is not None else None
    return Finding(
        summary=f"fp32 matmuls on CUDA cores take {steady.share(spent)} of the step",
        fix=_fix(run, mask),
        decides=Ends(low="memory holds them back", high="matmuls reach 80 % of the TF32 peak"),
        change=_change(run, mask, (fp32, tf32)),
        detail=f'float32_matmul_precision is "{setting}"' if setting else None,
        evidence=(
            shown("fp32 matmuls", seconds(spent), "s"),
            shown("fp32 peak", fp32, "FLOP/s"),
            shown("TF32 peak", tf32, "FLOP/s"),
        ),
        effort="line",
        risk="rounding",
        withhold=factorized(run, WORTH_SHARE * steady.step_ns),
        confidence="modelled" if (run.flops.per_entry(EXECUTED)[mask] > 0).mean() > 0.5 else "hint",
        symptom_of=("fp32-matmul",),
        raised_peak=tf32,
    )


def _left_in_fp32(run: Run, precision: PrecisionFacts | None) -> Mask:
    """Entries that compute in fp32, except those for which TF32 is already allowed: the setting would not help them."""
    mask: Mask = (run.activity.kind == COMPUTE) & run.kernels.matmul_like & (run.kernels.dtype == DTYPE_CODE["fp32"])
    if precision is None:
        return mask
    convolution = run.kernels.is_kind("convolution")
    allowed = np.where(convolution, bool(precision.cudnn_tf32), bool(precision.matmul_tf32))
    left: Mask = mask & ~allowed
    return left


def _fix(run: Run, mask: Mask) -> str:
    convolution = run.kernels.is_kind("convolution")[mask]
    lines: tuple[str, ...] = () if convolution.all() else ('torch.set_float32_matmul_precision("high")',)
    if convolution.any():
        lines = (*lines, "torch.backends.cudnn.allow_tf32 = True")
    return "; ".join(lines)


def _change(run: Run, mask: Mask, peaks: tuple[float, float]) -> Change:
    fp32, tf32 = peaks
    ratio = tf32 / fp32
    now = (run.activity.end - run.activity.start)[mask].astype(np.float64)
    flops, rows = run.flops.per_entry(EXECUTED)[mask], run.activity.row[mask]
    bandwidth = run.peaks.bandwidth
    moved = np.nan_to_num(run.least_bytes[mask]) / bandwidth * NS_PER_S if bandwidth else np.zeros(len(rows))
    efficiency = np.clip(flops / np.maximum(now, 1.0) * NS_PER_S / fp32, 1e-3, 1.0)
    arithmetic = np.minimum(flops / (_BEST_EFFICIENCY * fp32) * NS_PER_S, now)
    by_root = now / np.sqrt(ratio)

    def after(with_flops: npt.NDArray[np.float64]) -> tuple[SetDevice]:
        alone = np.maximum(np.where(flops > 0, with_flops, by_root), moved)
        return (SetDevice(rows, np.minimum(alone, now).astype(np.int64)),)

    return Change(
        # only the compute part becomes shorter
        after(np.maximum(now - arithmetic * (1.0 - 1.0 / ratio), by_root)),
        after(flops / tf32 * NS_PER_S / (_KEPT_EFFICIENCY * efficiency)),
        after(flops / (_BEST_EFFICIENCY * tf32) * NS_PER_S),
    )
