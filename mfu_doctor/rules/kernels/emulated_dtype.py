"""Matmuls run in a dtype that this device does not support natively.

What it measures
    The time of matmuls in fp16 on a CPU, in bf16 on a CPU whose measured bf16 peak is below half of its fp32 peak, or in bf16
    on a GPU whose tensor cores do not support bf16. Also their FLOP/s, compared with the peak of a dtype that the device
    supports.

Why it costs
    Without hardware support each element is converted. fp16 matmuls on a CPU, and bf16 matmuls on a CPU without AVX512-BF16 or
    AMX, were measured 30 to 120 times slower than fp32 matmuls. On a V100 bf16 reaches 10 TFLOP/s, while the fp16 peak is 125.

How the gain is predicted
    Each matmul takes FLOPs / (peak of the supported dtype x efficiency).
    Low: 40 % efficiency, or 50 % of a measured peak (as on a CPU).
    Mid: 60 %, or 75 % of a measured peak.
    High: 80 %, or 100 % of a measured peak.
    If the fix is fp32 without autocast, the casts of autocast are removed as well (mid and high). If the FLOPs are unknown, the
    rule reports nothing. Replay gives the new step time.

How to fix
    On a CPU use bf16 instead of fp16, or no autocast if bf16 is not supported either. On a Volta or Turing GPU use fp16 with a
    GradScaler instead of bf16.

When it is wrong
    Some recent CPUs support fp16 arithmetic (AVX512-FP16, SVE). For this reason, matmuls that reach more than 25 % of the peak
    are not reported.

References
    https://pytorch.org/docs/stable/amp.html#cpu-op-specific-behavior
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import owner_of, removed
from mfu_doctor.analysis.evidence.steady_steps import Mask, steady_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.analysis.views.kernels import DTYPE_CODE
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.devices.dtypes import short_dtype
from mfu_doctor.devices.peaks import SIXTEEN_BITS
from mfu_doctor.quantities import share
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_S, seconds

# Matmuls that reach more than this share of the peak of the supported dtype are supported natively after all.
HAS_A_PATH = 0.25
# Low, mid, high: share of what a large matmul reaches. It reaches all of a measured peak (a CPU's), 80 % of a datasheet's.
_EFFICIENCIES = (0.5, 0.75, 1.0)
_BEST_OF_DATA_SHEET = 0.8
_TO_COPY = re.compile(r"^aten::_to_copy$")


class _Emulated(Struct, frozen=True):
    """Dtypes without hardware support here, the one to use instead and its peak in FLOP/s."""

    formats: tuple[str, ...]
    instead: str
    peak: float


@rule("emulated-dtype", "KE030", "matmuls run in a dtype without hardware support", needs=(Need.SHAPES, Need.PEAK))
def emulated_dtype(run: Run) -> Outcome:
    """Judge the dtypes of the matmuls against what the device supports."""
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
        summary=f"Matmuls in {shown_used} take {steady.share(per_step)} of the step; this device only emulates them",
        fix=_fix(run, used, found.instead),
        decides=Ends(low="they reach 40 %", high="matmuls reach 80 % of the supported peak"),
        change=_change(run, mask, flops, found),
        detail=f"they reach {share(reached, found.peak)} of the {found.instead} peak of this device",
        evidence=(
            shown(f"matmuls in {shown_used}", seconds(per_step), "s"),
            shown("reached", reached, "FLOP/s"),
            shown(f"{found.instead} peak", found.peak, "FLOP/s"),
        ),
        risk="rounding",
        raised_peak=found.peak,
    )


def _rate(flops: npt.NDArray[np.float64], length: npt.NDArray[np.float64], mask: Mask) -> float:
    """FLOP/s of the matmuls under a mask."""
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
    copying = distinct(run.launches.op[(owner >= 0) & (run.launches.op >= 0)])
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
    """What to look for on this device; None if it supports all dtypes or its peak is unknown."""
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
    return f"{how}  # fp32: this CPU has no hardware for {' or '.join(used)}"
