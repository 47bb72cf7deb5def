"""From peak to MFU: the mean step as named bars. All steady steps together, they sum to these to the nanosecond.

The first bar is the model's work at the best peak. Divided by the step, it is the causal MFU (equal to MFU if no attention is
masked). Each further bar is the time of one cause. Bars from timestamps are measured; bars that divide a kernel by a model are
modelled. The sum is exact in both cases, because every division leaves its rest to the next bar.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.utilization.counted_work import CountedWork
from mfu_doctor.analysis.utilization.exclusive import exclusive_in, whole_nanoseconds
from mfu_doctor.analysis.utilization.matmul_losses import MatmulSplit, split_matmuls
from mfu_doctor.analysis.utilization.mfu import MfuResult
from mfu_doctor.analysis.views.activity import COMMUNICATION, COMPUTE, COPY
from mfu_doctor.analysis.views.breakdown import Split
from mfu_doctor.analysis.views.mean_step import mean_step
from mfu_doctor.analysis.views.work import Work
from mfu_doctor.quantities import share
from mfu_doctor.result.step import IDLE_CAUSES, OTHER_KERNELS, Bar
from mfu_doctor.units import NS_PER_S, NS_PER_US

Floats = npt.NDArray[np.float64]

TINY_NS = 5 * NS_PER_US  # a kernel this short takes about as long to launch as to run

_IDEAL = "ideal: model FLOPs / peak FLOP/s"
_INEFFICIENT = "other matmul inefficiency"
_CORRECTION = "correction: faster than the peak"
# Bars of one kernel's losses: key in MatmulSplit.losses -> name, basis.
_LOSS_BARS = {
    "precision": ("dtype with a lower peak", "modelled"),
    "roofline": ("memory-bound matmuls", "modelled"),
    "tile": ("tile quantization", "modelled"),
    "wave": ("wave quantization", "modelled"),
    "clock": ("clock below the boost clock", "modelled"),
    "kernel": (_INEFFICIENT, "measured"),
}
_MEMORY_BOUND = ("elementwise", "reduction", "normalization", "softmax", "embedding", "copy")
_UNKNOWN_FLOPS = "matmuls with unknown FLOPs"


class Waterfall(Struct, frozen=True):
    """Bars of the mean step, top (achieved) to bottom; `nanoseconds` are integers: those of `count` mean steps together."""

    bars: tuple[Bar, ...]
    nanoseconds: tuple[int, ...]
    whole_ns: int
    count: int
    note: str | None = None


class _Part(Struct, frozen=True):
    """A bar before rounding."""

    name: str
    group: str
    ns: float
    basis: str = "measured"


def build_waterfall(counted: CountedWork, mfu: MfuResult, split: Split) -> Waterfall:
    """The waterfall of the mean step.

    Args:
        counted: the work of the run with its FLOPs and traffic.
        mfu: what was measured of it.
        split: where the steady steps went together, each as often as it counts.
    """
    work, count = counted.work, int(counted.work.steps.weight.sum())
    tau, totals = exclusive_in(work.activity, work.steps.stretches())
    parts = _compute_parts(counted, mfu, tau)
    whole = whole_nanoseconds([p.ns for p in parts], totals.get(COMPUTE, 0))
    causes, overhead = _without_profiler(work, split)
    exact = _exact_parts(totals, split.data_loading, causes, overhead)
    every = [*zip(parts, whole, strict=True), *exact]
    kept = [(part, ns) for i, (part, ns) in enumerate(every) if ns or (i == 0 and part.group == "achieved")]
    bars = tuple(Bar(name=p.name, seconds=ns / count / NS_PER_S, group=p.group, basis=p.basis) for p, ns in kept)
    return Waterfall(bars, tuple(ns for _, ns in kept), split.total, count, _note(counted, mfu))


class LeastTimes(Struct, frozen=True):
    """Lower bounds of the mean step in nanoseconds: only the model's matmuls, and all current kernels at their roofline."""

    products: float  # without recomputation, at the peak of their own dtype
    kernels: float  # the roofline of the step; a kernel whose FLOPs and traffic are unknown is taken as it is


def least_times(counted: CountedWork, mfu: MfuResult) -> LeastTimes | None:
    """What the step would take if nothing but kernels at their roofline cost time; None without a peak."""
    if not mfu.ideal_peaks or not (counted.flops.owner >= 0).any():
        return None
    activity, steps = counted.work.activity, counted.work.steps
    tau, _ = exclusive_in(activity, steps.stretches())
    split = split_matmuls(counted, mfu.ideal_peaks, tau)
    others = (activity.kind == COMPUTE) & (counted.flops.owner < 0)
    floor = _floor(counted)
    floor = np.where(np.isnan(floor), tau, np.minimum(floor, tau))
    kernels = float(split.at_own_peak.sum()) + float(floor[others].sum())
    count = int(steps.weight.sum())
    return LeastTimes(min(float(split.products.sum()), kernels) / count, kernels / count)


def _compute_parts(counted: CountedWork, mfu: MfuResult, tau: Floats) -> list[_Part]:
    compute = counted.work.activity.kind == COMPUTE
    known = compute & (counted.flops.owner >= 0)
    unknown = compute & counted.flops.uncounted
    parts: list[_Part] = []
    if known.any() and mfu.ideal_peaks:
        parts += _matmul_parts(split_matmuls(counted, mfu.ideal_peaks, tau))
    elif known.any():
        parts.append(_Part("matmuls (peak FLOP/s unknown)", "matmul", float(tau[known].sum())))
    parts += _uncounted_parts(counted, mfu, float(tau[unknown].sum()), whole=not known.any())
    rest = np.where(compute & ~known & ~unknown, tau, 0.0)
    return parts + _other_parts(counted.work, rest, _floor(counted))


def _uncounted_parts(counted: CountedWork, mfu: MfuResult, spent: float, *, whole: bool) -> list[_Part]:
    """Matmuls without counted FLOPs; if that is all of them and the user gave the FLOPs, what these need at peak is known."""
    if not whole or mfu.report.method != "given" or mfu.report.model_flops is None or mfu.reference_peak is None:
        return [_Part(_UNKNOWN_FLOPS, "matmul", spent)]
    needed = mfu.report.model_flops * int(counted.work.steps.weight.sum()) / mfu.reference_peak * NS_PER_S
    above = _INEFFICIENT if spent >= needed else _CORRECTION
    return [_Part(_IDEAL, "achieved", needed), _Part(above, "matmul", spent - needed)]


def _matmul_parts(split: MatmulSplit) -> list[_Part]:
    parts = [
        _Part(_IDEAL, "achieved", float(split.achieved.sum())),
        _Part("recomputed FLOPs / peak FLOP/s", "recompute", float(split.recompute.sum())),
    ]
    for key, (name, basis) in _LOSS_BARS.items():
        parts.append(_Part(name, "matmul", float(split.losses[key].sum()), basis))
    above = float(split.above_peak.sum())
    return [*parts, _Part(_CORRECTION, "matmul", above)] if above < 0 else parts


def _other_parts(work: Work, rest: Floats, floor: Floats) -> list[_Part]:
    """Everything that does not multiply, each entry in exactly one bar."""
    activity, kernels = work.activity, work.kernels
    tiny = (activity.end - activity.start < TINY_NS) & activity.is_device
    memory = kernels.is_kind(*_MEMORY_BOUND) & ~tiny
    told = memory & ~np.isnan(floor)
    least = np.minimum(np.nan_to_num(floor), rest)
    optimizer, layout = kernels.is_kind("optimizer") & ~tiny, kernels.is_kind("layout") & ~tiny
    helper = kernels.is_kind("helper") & ~tiny
    left = ~(tiny | memory | optimizer | layout | helper)
    group = OTHER_KERNELS
    return [
        _Part("memory-bound: minimum time", group, float(least[told].sum()), "modelled"),
        _Part("memory-bound: above the minimum", group, float((rest - least)[told].sum()), "modelled"),
        _Part("memory-bound: traffic unknown", group, float(rest[memory & ~told].sum())),
        _Part("layout conversion", group, float(rest[layout].sum())),
        _Part("optimizer", group, float(rest[optimizer].sum())),
        _Part("auxiliary kernels of matmuls", group, float(rest[helper].sum())),
        _Part(f"kernels under {TINY_NS // NS_PER_US} us", group, float(rest[tiny].sum())),
        _Part("other kernels", group, float(rest[left].sum())),
    ]


def _floor(counted: CountedWork) -> Floats:
    """Least time of each entry by its traffic, ns; NaN if the traffic or the bandwidth is unknown."""
    if counted.peaks.bandwidth is None:
        return np.full(len(counted.least_bytes), np.nan)
    return counted.least_bytes / counted.peaks.bandwidth * NS_PER_S


def _exact_parts(
    totals: dict[int, int], data_loading: int, causes: dict[str, int], overhead: int
) -> list[tuple[_Part, int]]:
    """What is not compute, with its exact nanoseconds."""
    return [
        (_Part("exposed communication", "communication", 0.0), totals.get(COMMUNICATION, 0)),
        (_Part("exposed copies", "memory copy", 0.0), totals.get(COPY, 0)),
        (_Part("data loading", "data loading", 0.0), data_loading),
        *((_Part(f"idle: {cause.replace('_', ' ')}", "idle", 0.0), causes[cause]) for cause in IDLE_CAUSES),
        (_Part("idle: profiler", "idle", 0.0, "modelled"), overhead),
    ]


def _without_profiler(work: Work, split: Split) -> tuple[dict[str, int], int]:
    """Idle by cause without what the profiler adds to the host's work, and that part.

    The profiler slows every operator and every launch. So if steps without the profiler were timed, the extra time of the
    recorded steps is taken from launches and Python.
    """
    causes = dict(split.causes)
    host = causes["launch"] + causes["python"]
    extra = mean_step(work.steps, work.trace.facts).recording_ns * int(work.steps.weight.sum())
    overhead = min(max(round(extra), 0), host)
    if not overhead:
        return causes, 0
    from_launch = overhead * causes["launch"] // host
    causes["launch"] -= from_launch
    causes["python"] -= overhead - from_launch
    return causes, overhead


def _note(counted: CountedWork, result: MfuResult) -> str | None:
    mfu, trace, count, said = result.report, counted.work.trace, counted.flops, list[str]()
    if mfu.value is not None and mfu.causal is not None and mfu.causal < mfu.value:
        said.append(
            "The first row counts only the unmasked part of attention. The MFU above counts the whole score matrix."
        )
    if trace.facts is not None and trace.facts.timed_steps_s:
        said.append("These times are of steps recorded with the profiler. The MFU above was measured without it.")
    if trace.recorded.stacks or trace.recorded.memory:
        said.append("Stacks or memory were recorded, which slows the CPU. The idle times are therefore upper bounds.")
    unknown, known = count.mean(count.unknown_ns), count.mean(count.counted_ns)
    if unknown and mfu.method != "given":
        said.append(f"For {share(unknown, unknown + known)} of the matmul time the FLOPs are unknown.")
    return " ".join(said) or None
