"""Matrix products run in a number format that this device has no fast path for.

What it measures
    The time of products in fp16 on a CPU, or in bf16 on a GPU whose tensor cores do not know it, and the FLOP/s that they reach
    against the peak of the format next to it that the device does know.

Why it costs
    A format without hardware is converted element by element. fp16 products on a CPU were measured 30 to 80 times slower than
    fp32 ones; bf16 on a V100 reaches 10 TFLOP/s where fp16 has 125.

How the gain is predicted
    Each product takes its FLOPs over the peak of the supported format, at 40 % of it (low), 60 % (mid) and 80 % (high); of a
    measured peak, as on a CPU, at 50, 75 and 100 %. Where the
    FLOPs are unknown the rule cannot judge. Replay gives the step.

How to fix
    bf16 instead of fp16 on a CPU; fp16 with a gradient scaler instead of bf16 on a Volta or Turing GPU.

When it is wrong
    Some recent CPUs have fp16 arithmetic (AVX512-FP16, SVE); a product that reaches a good part of the peak is not reported.

References
    https://pytorch.org/docs/stable/amp.html#cpu-op-specific-behavior
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

# Products that reach this share of the supported format's peak have a fast path after all.
HAS_A_PATH = 0.25
# Part of what a large product reaches, by end: all of a peak that was measured with one (a CPU's), 80 % of a data sheet's.
_EFFICIENCIES = (0.5, 0.75, 1.0)
_BEST_OF_DATA_SHEET = 0.8


@rule("emulated-dtype", "KE030", "products in a format without hardware", needs=("shapes", "peak"))
def emulated_dtype(run: Run) -> Outcome:
    """Judge the formats of the products against what the device supports."""
    found = _emulated(run)
    if found is None:
        return None
    slow, instead, peak = found
    mask = (run.activity.kind == COMPUTE) & run.kernels.matmul_like & (run.kernels.dtype == DTYPE_CODE[slow])
    flops = run.flops.per_entry(EXECUTED)
    mask &= flops > 0
    spent = float((run.activity.end - run.activity.start)[mask].sum())
    if not spent or float(flops[mask].sum()) / spent * NS_PER_S > HAS_A_PATH * peak:
        return None
    steady = steady_of(run)
    inside = mask & steady.entries(run)
    rows, which = np.unique(run.activity.row[mask], return_inverse=True)
    work = np.bincount(which, flops[mask])
    best = peak if run.is_cpu else _BEST_OF_DATA_SHEET * peak
    ends = [(SetDevice(rows, (work / (best * e) * NS_PER_S).astype(np.int64)),) for e in _EFFICIENCIES]
    per_step = steady.per_step(float((run.activity.end - run.activity.start)[inside].sum()))
    reached = float(flops[mask].sum()) / spent * NS_PER_S
    return Finding(
        summary=f"Products in {slow} take {share(per_step, steady.step_ns)} of the step: this device emulates {slow}",
        fix=_fix(run, instead),
        change=Change(*ends),
        detail=f"they reach {share(reached, peak)} of the device's {instead} peak",
        evidence=(
            shown(f"products in {slow}", seconds(per_step), "s"),
            shown("reached", reached, "FLOP/s"),
            shown(f"{instead} peak", peak, "FLOP/s"),
        ),
        risk="rounding",
        raised_peak=peak,
    )


def _emulated(run: Run) -> tuple[str, str, float] | None:
    """The format without hardware, the one to use instead and its peak; None where the device knows both."""
    peaks = run.peaks
    if run.is_cpu:
        instead = "bf16" if peaks.of("bf16") is not None else "fp32"
        peak = peaks.of(instead)
        return None if peak is None else ("fp16", instead, peak)
    peak = peaks.of("fp16")
    return ("bf16", "fp16", peak) if peaks.of("bf16") is None and peak is not None else None


def _fix(run: Run, instead: str) -> str:
    if run.is_cpu:
        return 'with torch.autocast("cpu", dtype=torch.bfloat16):  # instead of float16'
    return f'with torch.autocast("cuda", dtype=torch.float16):  # {instead}, with torch.amp.GradScaler()'
