"""Matmuls run in fp32 or TF32 although the device is several times faster in bf16 or fp16.

What it measures
    The time of matmul, convolution and attention kernels that compute in fp32 or TF32, by kernel name and operand dtypes. Also
    the efficiency of each kernel: its FLOP/s against the peak of its own dtype.

Why it costs
    Tensor cores run bf16 and fp16 at 2 to 16 times the rate of TF32 and fp32, and 16-bit operands halve the memory traffic.

How the gain is predicted
    For each kernel: new time = FLOPs / (16-bit peak x efficiency), but at least (bytes / 2) / bandwidth. The time of casts
    is added.
    Low: only the compute part becomes faster, at most by the square root of the ratio of the peaks. Each operand is cast at each
    call.
    Mid: 70 % of the efficiency that the kernel has now. Half of the casts.
    High: 80 % efficiency. No casts.
    In a CPU-only run both peaks are measured, not taken from a datasheet. Mid: of the matmul time, the part up to
    2 x FLOPs / (current peak) is divided by the ratio of the peaks, because tile edges and packing also become faster. The rest
    (dispatch, thread wake-up) remains. High: 100 % efficiency. Casting and packing add 70, 30 and 10 us per matmul at low, mid
    and high, and twice, once and none of its memory traffic, so small matmuls become slower. Convolutions need less than half of
    that. An LSTM was measured at 0.6 to 1.4 times its fp32 time in bf16 and attention at 0.8 to 1.9 times: they count for
    nothing, and low assumes the longest of these for them.
    Without shapes the FLOPs are unknown. Then only the ratio of the peaks is used, and the finding is a rough estimate.

How to fix
    Put with torch.autocast("cuda", dtype=torch.bfloat16): around forward and loss. On a GPU older than Ampere, use fp16 with a
    GradScaler. A smaller change without autocast is torch.set_float32_matmul_precision("high") (see tf32-off).

When it is wrong
    The rule is wrong if the model needs fp32 (for example, some physics models and some losses). Small matmuls gain less than
    large ones. Memory-bound kernels become at most twice as fast.

References
    https://pytorch.org/docs/stable/amp.html; Micikevicius et al., Mixed precision training, ICLR 2018.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import scaled
from mfu_doctor.analysis.evidence.backward import is_differentiated
from mfu_doctor.analysis.evidence.bf16_paths import UNKNOWN_PATHS, Casts, casts_on_cpu, gains_from_bf16
from mfu_doctor.analysis.evidence.digits import factorized
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, Steady, steady_of
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.replay.edits import Change, Edit, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.analysis.views.kernels import DTYPE_CODE
from mfu_doctor.arrays.distinct import numbered
from mfu_doctor.quantities import peak_rate, share
from mfu_doctor.result.findings import Ends, Evidence
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_S, seconds

# Below this share of the matmul time in fp32 or TF32, autocast is on, and the rest is excluded from it on purpose.
ALREADY_SHARE = 0.05
# A 16-bit peak must exceed the one in use by this factor to be worth the change of dtype.
FASTER = 1.2
_KEPT_EFFICIENCY, _BEST_EFFICIENCY = (
    0.7,
    0.8,
)  # of the current one; of the peak (large GEMMs on H100 and A100 reach 0.6 to 0.8)
# Share of a measured peak that the inner loops of a matmul reach at the least, with odd edges and with packing.
_LEAST_OF_MEASURED = 0.5
# Casting an operand reads 4 bytes and writes 2 per element; the matmul reads 4: about the traffic of the matmul itself.
# Two more small operators per matmul take about 5 us each to dispatch in eager mode.
_GPU_CASTS = ((10_000, 1.0), (5_000, 0.5), (0, 0.0))
_LOG_SHARE = (0.5, 0.7, 1.0)  # without FLOPs: exponent of the ratio of the peaks that becomes speed


class _Slow(Struct, frozen=True):
    """The fp32 and TF32 matmuls: entries, their rows and durations (ns), FLOPs, bytes (NaN: unknown), current and 16-bit peak."""

    rows: Rows
    duration: npt.NDArray[np.float64]
    flops: npt.NDArray[np.float64]
    bytes: npt.NDArray[np.float64]
    peak: npt.NDArray[np.float64]
    peak16: float
    bandwidth: float | None
    is_cpu: bool
    casts: tuple[Casts, Casts, Casts]  # low, mid, high

    @property
    def reached(self) -> float:
        """Part of its peak that a large matmul reaches: all of a measured one."""
        return 1.0 if self.is_cpu else _BEST_EFFICIENCY


@rule(
    "fp32-matmul",
    "KE001",
    "matmuls run in fp32 or TF32",
    needs=(Need.PEAK,),
    also=("autocast", "bf16", "amp", "mixed-precision"),
)
def fp32_matmul(run: Run) -> Outcome:
    """Judge the dtypes of the matmuls."""
    target = _target(run)
    if target is None:
        return None
    steady = steady_of(run)
    products = run.kernels.matmul_like & (run.activity.kind == COMPUTE)
    wide = products & np.isin(run.kernels.dtype, [DTYPE_CODE["fp32"], DTYPE_CODE["tf32"]])
    slow = wide & gains_from_bf16(run)
    inside = steady.entries(run)
    spent, total = _ns(run, slow & inside), _ns(run, products & inside)
    if spent <= ALREADY_SHARE * total:
        return None
    table = _table(run, slow, target)
    per_step = steady.per_step(spent)
    used = " and ".join(d for d in ("fp32", "tf32") if (slow & (run.kernels.dtype == DTYPE_CODE[d])).any())
    known = bool((table.flops > 0).mean() > 0.5)
    return Finding(
        summary=f"{used} matmuls take {steady.share(per_step)} of the step ({share(spent, total)} of the matmul time)",
        fix=_fix(run, target),
        detail=f"the {target} peak is {peak_rate(table.peak16)}, the {used} peak {peak_rate(float(np.median(table.peak)))}",
        decides=Ends(low="memory and casts hold them back", high="matmuls reach 80 % of the 16-bit peak without casts"),
        change=_change(table, _slowed(run, wide & ~slow)),
        evidence=_evidence(run, steady, slow & inside, (per_step, table.peak16)),
        risk="rounding",
        trades=table.is_cpu,  # few train in 16 bits there, and what it brings is known least
        confidence="modelled" if known else "hint",
        place=_place(run, slow & inside),
        withhold=_why_not(run, steady),
        raised_peak=table.peak16,
    )


def _why_not(run: Run, steady: Steady) -> str | None:
    """What would be lost in 16 bits, as a clause; None if nothing is known to be."""
    if is_differentiated(run):
        return "derivatives of derivatives are taken, for which 16 bits have too few digits"
    return factorized(run, WORTH_SHARE * steady.step_ns)


def _target(run: Run) -> str | None:
    """The 16-bit dtype to move to: bf16 if the device has it, else fp16; None if neither is faster."""
    peaks = run.peaks
    now = peaks.of("fp32")
    if now is None:
        return None
    for dtype in ("bf16", "fp16"):
        peak = peaks.of(dtype)
        if peak is not None and peak > FASTER * max(now, peaks.of("tf32") or 0.0):
            return dtype
    return None


def _ns(run: Run, mask: Mask) -> float:
    return float((run.activity.end - run.activity.start)[mask].sum())


def _table(run: Run, slow: Mask, target: str) -> _Slow:
    """One line per row (on a CPU an operator can have several stretches)."""
    entry = np.flatnonzero(slow)
    rows, which = numbered(run.activity.row[entry])
    count = len(rows)
    first = np.zeros(count, np.int64)
    first[which[::-1]] = entry[::-1]
    by_code = {DTYPE_CODE[d]: run.peaks.of(d) or run.peaks.of("fp32") or 1.0 for d in ("fp32", "tf32")}
    return _Slow(
        rows=rows,
        duration=_summed(which, run.unrecorded_ns[entry], count),
        flops=_summed(which, run.flops.per_entry(EXECUTED)[entry], count),
        bytes=_summed(which, run.least_bytes[entry], count),
        peak=np.array([by_code[int(code)] for code in run.kernels.dtype[first]], np.float64),
        peak16=run.peaks.of(target) or 1.0,
        bandwidth=run.peaks.bandwidth,
        is_cpu=run.is_cpu,
        casts=casts_on_cpu(run, rows) if run.is_cpu else _casts_on_gpu(count),
    )


def _casts_on_gpu(count: int) -> tuple[Casts, Casts, Casts]:
    low, mid, high = (Casts(np.full(count, float(ns)), np.full(count, traffic)) for ns, traffic in _GPU_CASTS)
    return low, mid, high


def _summed(which: Rows, value: npt.NDArray[np.float64] | Rows, count: int) -> npt.NDArray[np.float64]:
    return np.bincount(which, value, minlength=count).astype(np.float64)


def _slowed(run: Run, others: Mask) -> tuple[Edit, ...]:
    """On a CPU autocast can make an LSTM or attention slower."""
    names = run.trace.events.name[run.activity.row]
    found: list[Edit] = []
    for path in UNKNOWN_PATHS:
        found += scaled(run, others & np.isin(names, ids_matching(run.trace, path.pattern)), path.at_worst)
    return tuple(found)


def _change(table: _Slow, slowed: tuple[Edit, ...]) -> Change:
    rate = table.flops / np.maximum(table.duration, 1.0)
    efficiency = np.clip(rate * NS_PER_S / table.peak, 1e-3, 1.0)
    ratio = table.peak16 / table.peak
    moved = np.nan_to_num(table.bytes) / table.bandwidth * NS_PER_S if table.bandwidth else np.zeros(len(table.rows))
    by_work = table.flops / table.peak16 * NS_PER_S
    arithmetic = np.minimum(table.flops / (table.reached * table.peak) * NS_PER_S, table.duration)
    rest_stays = table.duration - arithmetic * (1.0 - 1.0 / ratio)
    in_loops = np.minimum(arithmetic / _LEAST_OF_MEASURED, table.duration)
    loops_scale = table.duration - in_loops * (1.0 - 1.0 / ratio)
    computed = (
        np.maximum(
            rest_stays, table.duration / np.sqrt(ratio)
        ),  # large matmuls gain no more than the root of the ratio
        loops_scale if table.is_cpu else by_work / (_KEPT_EFFICIENCY * efficiency),
        by_work / table.reached,
    )
    ends = []
    # Beside a GPU the host runs ahead of small casts; a CPU does them itself, so that small matmuls become slower.
    longest = np.full(len(table.rows), np.inf) if table.is_cpu else table.duration
    for with_flops, exponent, casts in zip(computed, _LOG_SHARE, table.casts, strict=True):
        alone = np.where(table.flops > 0, with_flops, table.duration / ratio**exponent)
        after = np.maximum(alone, moved / 2) + casts.traffic * moved + casts.dispatch_ns
        ends.append((SetDevice(table.rows, np.minimum(after, longest).astype(np.int64)),))
    low, mid, high = ends
    return Change((*low, *slowed), mid, high)


def _fix(run: Run, target: str) -> str:
    if run.is_cpu:
        if target == "fp16":
            return 'with torch.autocast("cpu", dtype=torch.float16):  # around forward and loss, with torch.amp.GradScaler("cpu")'
        return 'with torch.autocast("cpu", dtype=torch.bfloat16):  # around forward and loss'
    if target == "fp16":
        return (
            'with torch.autocast("cuda", dtype=torch.float16):  # around forward and loss, with torch.amp.GradScaler()'
        )
    return 'with torch.autocast("cuda", dtype=torch.bfloat16):  # around forward and loss'


def _place(run: Run, mask: Mask) -> str | None:
    """Line of the longest of these matmuls."""
    entry = np.flatnonzero(mask)
    longest = entry[np.argmax((run.activity.end - run.activity.start)[entry])]
    op = int(run.launches.op[longest])
    return run.places(np.array([op]))[0] if op >= 0 else None


def _evidence(run: Run, steady: Steady, mask: Mask, numbers: tuple[float, float]) -> tuple[Evidence, ...]:
    spent, peak = numbers
    entry = np.flatnonzero(mask)
    names = run.trace.events.name[run.activity.row[entry]]
    time = np.bincount(names, (run.activity.end - run.activity.start)[entry], minlength=len(run.trace.names))
    top = [int(i) for i in np.argsort(-time)[:3] if time[i] > 0]
    kernels = [shown("kernel", seconds(steady.per_step(float(time[i]))), "s", run.trace.names[i]) for i in top]
    return (
        shown("fp32 and TF32 matmuls", seconds(spent), "s"),
        shown("matmuls", steady.per_step(len(entry)), "per step"),
        shown("16-bit peak", peak, "FLOP/s"),
        *kernels,
    )
