"""Matrix products run in a number format that this device has no fast path for.

What it measures
    The time of products in fp16 on a CPU, in bf16 on a CPU whose measured bf16 peak is below half of its fp32 one, or in bf16 on
    a GPU whose tensor cores do not know it, and the FLOP/s that they reach against the peak of the format next to it that the
    device does know.

Why it costs
    A format without hardware is converted element by element. fp16 products on a CPU, and bf16 ones on a CPU without
    AVX512-BF16 or AMX, were measured 30 to 120 times slower than fp32 ones; bf16 on a V100 reaches 10 TFLOP/s where fp16 has 125.

How the gain is predicted
    Each product takes its FLOPs over the peak of the supported format, at 40 % of it (low), 60 % (mid) and 80 % (high); of a
    measured peak, as on a CPU, at 50, 75 and 100 %. Where the FLOPs are unknown the rule cannot judge. Where autocast goes, so
    do its casts (mid and high). Replay gives the step.

How to fix
    On a CPU bf16 instead of fp16, or no autocast at all where bf16 has no hardware either; fp16 with a gradient scaler instead of
    bf16 on a Volta or Turing GPU.

When it is wrong
    Some recent CPUs have fp16 arithmetic (AVX512-FP16, SVE); a product that reaches a good part of the peak is not reported.

References
    https://pytorch.org/docs/stable/amp.html#cpu-op-specific-behavior
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.evidence.attribution import owner_of, removed
from mfu_doctor.analysis.evidence.steady_steps import Mask, steady_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.analysis.views.kernels import DTYPE_CODE
from mfu_doctor.devices.dtypes import short_dtype
from mfu_doctor.devices.peaks import SIXTEEN_BITS
from mfu_doctor.quantities import share
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_S, seconds

# Products that reach this share of the supported format's peak have a fast path after all.
HAS_A_PATH = 0.25
# Part of what a large product reaches, by end: all of a peak that was measured with one (a CPU's), 80 % of a data sheet's.
_EFFICIENCIES = (0.5, 0.75, 1.0)
_BEST_OF_DATA_SHEET = 0.8
_TO_COPY = re.compile(r"^aten::_to_copy$")


@dataclass(frozen=True, slots=True)
class _Emulated:
    """Number formats without hardware here, the one to use instead and its peak in FLOP/s."""

    formats: tuple[str, ...]
    instead: str
    peak: float


@rule("emulated-dtype", "KE030", "products in a format without hardware", needs=(Need.SHAPES, Need.PEAK))
def emulated_dtype(run: Run) -> Outcome:
    """Judge the formats of the products against what the device supports."""
    found = _emulated(run)
    if found is None:
        return None
    flops = run.flops.per_entry(EXECUTED)
    products = (run.activity.kind == COMPUTE) & run.kernels.matmul_like & (flops > 0)
    length = (run.activity.end - run.activity.start).astype(np.float64)
    products &= length > 0
    mask = np.zeros(len(products), bool)
    used = []
    for slow in found.formats:
        own = products & (run.kernels.dtype == DTYPE_CODE[slow])
        if own.any() and _rate(flops, length, own) <= HAS_A_PATH * found.peak:
            mask |= own
            used.append(slow)
    if not used:
        return None
    steady = steady_of(run)
    per_step = steady.per_step(float(length[mask & steady.entries(run)].sum()))
    reached = _rate(flops, length, mask)
    shown_used = " and ".join(used)
    return Finding(
        summary=f"Products in {shown_used} take {steady.share(per_step)} of the step: this device emulates them",
        fix=_fix(run, used, found.instead),
        change=_change(run, mask, flops, found),
        detail=f"they reach {share(reached, found.peak)} of the device's {found.instead} peak",
        evidence=(
            shown(f"products in {shown_used}", seconds(per_step), "s"),
            shown("reached", reached, "FLOP/s"),
            shown(f"{found.instead} peak", found.peak, "FLOP/s"),
        ),
        risk="rounding",
        raised_peak=found.peak,
    )


def _rate(flops: npt.NDArray[np.float64], length: npt.NDArray[np.float64], mask: Mask) -> float:
    """FLOP/s of the products under a mask."""
    return float(flops[mask].sum()) / float(length[mask].sum()) * NS_PER_S


def _change(run: Run, mask: Mask, flops: npt.NDArray[np.float64], found: _Emulated) -> Change:
    rows, which = np.unique(run.activity.row[mask], return_inverse=True)
    work = np.bincount(which, flops[mask])
    best = found.peak if run.is_cpu else _BEST_OF_DATA_SHEET * found.peak
    low, mid, high = (SetDevice(rows, (work / (best * e) * NS_PER_S).astype(np.int64)) for e in _EFFICIENCIES)
    casts = removed(run, _casts(run)) if found.instead == "fp32" else ()
    return Change((low,), (mid, *casts), (high, *casts))


def _casts(run: Run) -> Mask:
    """Copies between fp32 and 16 bits with all that they call, as autocast inserts them."""
    owner = owner_of(run, _TO_COPY)
    copying = np.unique(run.launches.op[(owner >= 0) & (run.launches.op >= 0)])
    casts = np.array([row for row in copying.tolist() if _is_cast(run, row)], np.int64)
    mine = owner[np.isin(run.launches.op, casts)]
    return np.isin(owner, mine[mine >= 0])


def _is_cast(run: Run, row: int) -> bool:
    """Whether an operator copies between fp32 and 16 bits: aten::copy_(to, from)."""
    args = run.trace.args_of(row)
    if args is None:
        return False
    ends = {short_dtype(args.type_of(i)) for i in (0, 1)}
    return "fp32" in ends and bool(ends & set(SIXTEEN_BITS))


def _emulated(run: Run) -> _Emulated | None:
    """What to look for on this device; None where it knows its formats or nothing is known of them."""
    peaks = run.peaks
    if run.is_cpu:
        instead = "bf16" if peaks.of("bf16") is not None else "fp32"
        peak = peaks.of(instead)
        formats = tuple(d for d in SIXTEEN_BITS if d == "fp16" or d in peaks.emulated)
        return None if peak is None else _Emulated(formats, instead, peak)
    peak = peaks.of("fp16")
    return _Emulated(("bf16",), "fp16", peak) if peaks.of("bf16") is None and peak is not None else None


def _fix(run: Run, used: list[str], instead: str) -> str:
    if not run.is_cpu:
        return 'with torch.autocast("cuda", dtype=torch.float16):  # fp16, with torch.amp.GradScaler()'
    if instead == "bf16":
        return 'with torch.autocast("cpu", dtype=torch.bfloat16):  # instead of float16'
    stored = run.facts is not None and any(short_dtype(d) in used for d in run.facts.parameter_dtypes)
    how = "model.float()" if stored else 'with torch.autocast("cpu", enabled=False):'
    return f"{how}  # fp32: this processor has no arithmetic in {' or '.join(used)}"
