"""MFU: the model FLOP/s of the mean step over the peak of the device, together with how both were determined.

Definitions (PaLM, appendix B, per dtype): ideal(F) = sum over dtypes d of F_d / max(P_d, P_ref), where P_d is the
dense peak of d and P_ref the peak of the best training precision that the run could use on this device. Then

    MFU = ideal(model FLOPs) / T         attention without its mask, recomputation excluded
    HFU = ideal(executed FLOPs) / T      recomputation included, masked work that kernels skip left out

An fp32 kernel is measured against P_ref, so that the slower dtype shows as a loss. An fp8 kernel is measured against P_fp8, so
that MFU stays below 100 %.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace

from mfu_doctor.analysis.utilization.above_peak import why_above_peak
from mfu_doctor.analysis.utilization.counted_ops import BACKWARD, FORWARD
from mfu_doctor.analysis.utilization.counted_work import CountedWork
from mfu_doctor.analysis.utilization.flops import CAUSAL, EXECUTED, MODEL, SKIPPED, FlopCount
from mfu_doctor.analysis.utilization.unknown_flops import unknown_flops_of
from mfu_doctor.analysis.views.kernels import DTYPE_CODES
from mfu_doctor.analysis.views.mean_step import mean_step
from mfu_doctor.devices import Peaks
from mfu_doctor.devices.peaks import TRAINING_DTYPES
from mfu_doctor.flops.attention import ATTENTION
from mfu_doctor.quantities import flop_count
from mfu_doctor.result.run import Convention, DeviceInfo, Mfu
from mfu_doctor.result.stated_mfu import LOWER_BOUND, as_stated
from mfu_doctor.units import NS_PER_S

DTYPE_SHARE = 0.01  # of the FLOPs: a run computes in a dtype from here on
CAUSAL_SHARE = 0.05  # masked attention beyond this share of the FLOPs is worth a sentence
MYSTERY_SHARE = 0.02  # custom operators above this share of the time make MFU a lower bound


class MfuResult(Struct, frozen=True):
    """MFU of a run as the report states it, and its denominator."""

    report: Mfu
    reference: str | None  # dtype whose peak is P_ref
    reference_peak: float | None  # P_ref, FLOP/s
    ideal_peaks: dict[str | None, float] = field(default_factory=dict)  # max(P_d, P_ref) by dtype; empty: no peak known
    step_s: float = 0.0  # T: the mean step, see `views.mean_step`


def measure_mfu(counted: CountedWork, model_flops: float | None = None) -> MfuResult:
    """MFU, HFU and their variants of a run; every value that is not known is None and `reason` says why.

    Args:
        counted: the work of the run with its FLOPs and the peaks of its device.
        model_flops: FLOP per step as the user gives them; None: what the capture was given, else counted.
    """
    reference = reference_dtype(counted.flops, counted.peaks)
    peak = counted.peaks.of(reference)
    facts = counted.work.trace.facts
    step_s = mean_step(counted.work.steps, facts).stated_ns / NS_PER_S
    given = model_flops
    if given is None and facts is not None and facts.given is not None:
        given = facts.given.model_flops
    ideal = ideal_peaks(counted.peaks, reference)
    result = MfuResult(Mfu(), reference, peak, ideal, step_s)
    report = _given(counted, result, given) if given is not None else _counted(counted, result)
    cause, unknown = why_above_peak(counted, report, step_s), unknown_flops_of(counted.flops.unknown)
    stated = as_stated(report, cause=cause, unknown=unknown)
    impossible = stated.value is None and (stated.calculated or 0.0) > 1
    return replace(result, report=stated, ideal_peaks={} if impossible else ideal)


def reference_dtype(count: FlopCount, peaks: Peaks) -> str | None:
    """The dtype whose peak is the denominator of MFU.

    On an accelerator, the fastest dtype that training commonly uses; of several as fast (bf16 and fp16), the one with most of the
    FLOPs. On a CPU, where a second dtype is not always possible, the
    one with most of the FLOPs; but if this CPU only emulates it, the fastest one that it has, as on a GPU without bf16.
    """
    totals = {d: int(count.tally[:, :, i, MODEL].sum()) for i, d in enumerate(DTYPE_CODES)}
    if peaks.kind != "cpu":
        best = peaks.of(peaks.best)
        as_fast = [d for d in TRAINING_DTYPES if best is not None and peaks.of(d) == best]
        return max(as_fast, key=lambda d: totals.get(d, 0), default=None)
    used = max(totals, key=lambda d: totals[d])
    if totals[used] and used not in peaks.emulated:
        return used
    return peaks.best if peaks.given is None else "fp32"  # the user's value is for every dtype


def ideal_peaks(peaks: Peaks, reference: str | None) -> dict[str | None, float]:
    """max(P_d, P_ref) by dtype; empty if P_ref is not known."""
    peak = peaks.of(reference)
    return {d: max(peaks.of(d) or 0.0, peak) for d in DTYPE_CODES} if peak is not None else {}


def ideal_seconds(count: FlopCount, measure: int, peaks: dict[str | None, float]) -> float:
    """ideal(F): the time that the mean step's FLOPs would take at their peaks."""
    return float(sum(flops / peaks[dtype] for dtype, flops in count.by_dtype(measure).items()))


def device_info(counted: CountedWork, mfu: MfuResult) -> DeviceInfo:
    """The device and the denominator, as the report states them."""
    peaks, trace = counted.peaks, counted.work.trace
    used = next((d for d in trace.devices if d.index == counted.work.activity.device), None)
    world = trace.distributed.world_size
    if trace.facts is not None and trace.facts.world_size is not None:
        world = trace.facts.world_size
    return DeviceInfo(
        name=peaks.name,
        kind=peaks.kind,
        count=world or 1,
        dtype=mfu.reference if mfu.reference_peak is not None and peaks.given is None else None,
        matrix_unit=peaks.matrix_unit(mfu.reference) if mfu.reference_peak is not None else None,
        peak_flops=mfu.reference_peak,
        peak_source=peaks.sources.get(mfu.reference or "", peaks.source),
        peak_reason=no_peak(peaks, mfu.reference),
        peak_measured=peaks.measured,
        sms=peaks.sms,
        memory_bytes=used.memory_bytes if used is not None else None,
        bandwidth_bytes_s=peaks.bandwidth,
        peaks=dict(peaks.dense),
    )


def no_peak(peaks: Peaks, reference: str | None) -> str | None:
    """Why the denominator is not known; None if it is."""
    if peaks.of(reference) is not None:
        return None
    if peaks.reason is not None:
        return peaks.reason
    known = ", ".join(peaks.dense) or "no dtype"
    return f"a peak is known for {known}, but not for {reference or 'the dtype of this run'}: pass --peak-flops"


def _given(counted: CountedWork, result: MfuResult, flops: float) -> Mfu:
    """The user's FLOP per step over P_ref; nothing is known about recomputation or dtypes."""
    value = flops / (result.reference_peak * result.step_s) if result.reference_peak is not None else None
    seen = counted.flops.flops()
    notes = [f"FLOPs counted from the trace: {flop_count(seen)} per step"] if seen else []
    return Mfu(
        value=value,
        model_flops=flops,
        achieved_flops_s=flops / result.step_s,
        method="given",
        reason=no_peak(counted.peaks, result.reference) if value is None else None,
        notes=tuple(notes),
    )


def _counted(counted: CountedWork, result: MfuResult) -> Mfu:
    count, step_s = counted.flops, result.step_s
    model = count.flops()
    if not model:
        reason = count.reason or "the analysed steps contain no operator with known FLOPs"
        return Mfu(method="counted", coverage=count.coverage, reason=reason)
    ideal = result.ideal_peaks
    skipped = count.flops(SKIPPED)
    value = ideal_seconds(count, MODEL, ideal) / step_s if ideal else None
    upper = _upper(counted, value)
    hfu = None
    if ideal:
        spent = ideal_seconds(count, EXECUTED, ideal) - ideal_seconds(count, SKIPPED, ideal)
        hfu = spent / step_s
    return Mfu(
        value=value,
        upper=upper,
        hfu=hfu,
        causal=ideal_seconds(count, CAUSAL, ideal) / step_s if ideal else None,
        by_dtype=_by_dtype(counted.peaks, count, step_s),
        computes_in=_computes_in(count, model),
        model_flops=model,
        causal_flops=count.flops(CAUSAL),
        recompute_flops=count.flops(EXECUTED) - model,
        forward_flops=count.flops(MODEL, FORWARD),
        backward_flops=count.flops(MODEL, BACKWARD),
        achieved_flops_s=model / step_s,
        method="counted",
        coverage=count.coverage,
        reason=no_peak(counted.peaks, result.reference) if value is None else None,
        notes=_notes(counted, skipped, model),
        conventions=_conventions(counted, result),
    )


def _upper(counted: CountedWork, value: float | None) -> float | None:
    """Upper end of MFU: as if all work with unknown FLOPs ran at peak; None if everything is counted."""
    unknown = counted.flops.mean(counted.flops.unknown_ns) / counted.work.steps.mean_ns + _mystery_share(counted)
    return max(min(value + unknown, 1.0), value) if value is not None and unknown > 0 else None


def _mystery_share(counted: CountedWork) -> float:
    """Share of the analysed time in custom operators about which nothing is known, 0 if it is negligible."""
    spent = sum(u.duration_ns for u in counted.flops.unknown if not u.matmul_like)
    share = spent / int(counted.work.steps.duration.sum())
    return share if share > MYSTERY_SHARE else 0.0


def _by_dtype(peaks: Peaks, count: FlopCount, step_s: float) -> float | None:
    """Each FLOP against the peak of the dtype that it ran in; None if one of these peaks is unknown."""
    parts = [(flops, peaks.of(dtype)) for dtype, flops in count.by_dtype().items()]
    if any(peak is None for _, peak in parts):
        return None
    return sum(flops / peak for flops, peak in parts if peak is not None) / step_s


def _computes_in(count: FlopCount, model: float) -> tuple[str, ...]:
    """The dtypes that matter, the one with most of the FLOPs first."""
    parts = sorted(((flops, dtype) for dtype, flops in count.by_dtype().items() if dtype is not None), reverse=True)
    return tuple(dtype for flops, dtype in parts if flops >= DTYPE_SHARE * model)


def _notes(counted: CountedWork, skipped: float, model: float) -> tuple[str, ...]:
    notes = []
    if skipped > CAUSAL_SHARE * model:
        notes.append(
            "MFU counts attention without its mask (as PaLM does); causal kernels skip half of it, so MFU can exceed HFU"
        )
    missing = [u for u in counted.flops.unknown if u.matmul_like]
    if missing:
        names = ", ".join(u.name for u in missing[:3])
        notes.append(f"{LOWER_BOUND}: the FLOPs of {names} are unknown")
    if _mystery_share(counted):
        names = ", ".join(u.name for u in counted.flops.unknown[:3] if not u.matmul_like)
        notes.append(f"{LOWER_BOUND}: {names} can contain matmuls that are not counted")
    return tuple(notes)


def _conventions(counted: CountedWork, result: MfuResult) -> tuple[Convention, ...]:
    """MFU of the mean step by other common formulas, if profile() recorded parameters and tokens."""
    facts = counted.work.trace.facts
    if facts is None or facts.parameter_elements is None or facts.batch_shape is None or len(facts.batch_shape) != 2:
        return ()
    tokens = facts.batch_shape[0] * facts.batch_shape[1] * (facts.micro_batches or 1)
    dense = 6.0 * facts.parameter_elements * tokens
    peak = result.reference_peak
    formulas = {"6N": dense, "6N + 12LHQT (PaLM, nanoGPT)": dense + _attention_flops(counted)}
    scale = peak * result.step_s if peak is not None else None
    return tuple(Convention(name=n, flops=f, mfu=f / scale if scale else None) for n, f in formulas.items())


def _attention_flops(counted: CountedWork) -> float:
    """Full-square FLOPs of fused attention in the mean step: 12 L H Q T per token."""
    ops, trace = counted.flops.ops, counted.work.trace
    names = trace.name_ids(frozenset(ATTENTION))
    mine = (counted.flops.window >= 0) & np.isin(trace.events.name[ops.row], names) & (ops.phase <= BACKWARD)
    of_steps = np.zeros(len(counted.flops.weight), np.int64)
    np.add.at(of_steps, counted.flops.window[mine], [ops.costs[c].model for c in ops.cost[mine].tolist()])
    return counted.flops.mean(of_steps)
