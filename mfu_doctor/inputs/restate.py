"""A saved report with another peak or another number of FLOPs per step: the values proportional to them, calculated again.

MFU values are ratios and can be recalculated exactly. Findings cannot, because rules compare with the peak: they remain as they
were saved. The waterfall is left out. The report says so.
"""

from __future__ import annotations

from dataclasses import replace

from mfu_doctor.devices.resolve import peaks_with
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.settings import Settings
from mfu_doctor.quantities import flop_count, peak_rate
from mfu_doctor.result.findings import Diagnosis, Plan
from mfu_doctor.result.report import Report
from mfu_doctor.result.run import Convention, Mfu
from mfu_doctor.result.step import KernelRow

GIVEN = "given by the user"  # the source of a peak, and the method "given" of FLOPs: stated when the report was made
_JUDGED = "the findings are not recalculated: pass the trace to update them"
_MIXED = "the run used several dtypes with different peaks: pass the trace instead of the report"
_ABOVE = "above 100 %"
_ROUNDING = 1e-6  # relative: a report keeps its numbers in full
_NO_WATERFALL = "The peak or the FLOPs changed. Pass the trace to calculate this table."


def restated(report: Report, stated: Overrides, settings: Settings) -> Report:
    """The report with what the user states now, or what pyproject.toml states if nothing was stated when it was made.

    Args:
        report: a saved report.
        stated: what the user states now.
        settings: what pyproject.toml states.
    """
    peak, flops = stated.peak_flops, stated.model_flops
    if peak is None and report.device.peak_source != GIVEN:
        peak = settings.peak_flops
    if flops is None and report.mfu.method != "given":
        flops = settings.model_flops
    if peak == report.device.peak_flops:
        peak = None
    if flops == report.mfu.model_flops:
        flops = None
    return report if peak is None and flops is None else _restated(report, peak, flops)


def _restated(report: Report, peak: float | None, flops: float | None) -> Report:
    """The report with a new peak, new FLOPs a step, or both; None keeps what it has."""
    before = report.mfu
    mfu = _mfu(report, peak, flops)
    ratio = mfu.value / before.value if mfu.value and before.value else None
    device = report.device
    if peak is not None:
        on_cpu = dict.fromkeys(device.peaks, peak)
        peaks = on_cpu if device.kind == "cpu" else peaks_with(device.peaks, device.peak_flops, peak)
        device = replace(device, peak_flops=peak, peak_source=GIVEN, peak_reason=None, peak_measured=False, peaks=peaks)
    said = [] if peak is None else [f"a peak of {peak_rate(peak)}"]
    said += [] if flops is None else [f"{flop_count(flops)} per step"]
    return replace(
        report,
        device=device,
        mfu=mfu,
        waterfall=(),
        waterfall_note=_NO_WATERFALL,
        diagnoses=tuple(_diagnosis(d, ratio) for d in report.diagnoses),
        plan=_plan(report.plan, ratio),
        kernels=tuple(_kernel(row, device.dtype, peak) for row in report.kernels),
        cautions=(*report.cautions, f"MFU is recalculated for {' and '.join(said)}; {_JUDGED}"),
    )


def _mfu(report: Report, peak: float | None, flops: float | None) -> Mfu:
    """MFU from the same step; without a step, a peak or FLOPs it stays what it was."""
    old, step, reference = report.mfu, report.step_time_s, report.device.peak_flops
    work, against = flops or old.model_flops, peak or reference
    if work is None or against is None or step is None or not step.median > 0:
        return old
    achieved = work / step.median
    if flops is not None:
        value = achieved / against
        return Mfu(value=value, model_flops=work, method="given", achieved_flops_s=achieved, notes=_above_peak(value))
    if old.value is None or reference is None:
        value, scale = achieved / against, None
    elif abs(achieved / reference / old.value - 1) > _ROUNDING:
        return replace(old, value=None, upper=None, hfu=None, causal=None, by_dtype=None, reason=_MIXED)
    else:
        scale = reference / against
        value = old.value * scale
    return replace(
        old,
        value=value,
        upper=None if old.upper is None or old.value is None else value + (old.upper - old.value),
        hfu=_scaled(old.hfu, scale),
        causal=_scaled(old.causal, scale),
        by_dtype=None,
        reason=None,
        notes=(*(note for note in old.notes if _ABOVE not in note), *_above_peak(value)),
        conventions=tuple(Convention(name=c.name, flops=c.flops, mfu=_scaled(c.mfu, scale)) for c in old.conventions),
    )


def _above_peak(value: float) -> tuple[str, ...]:
    return (f"MFU {_ABOVE}: check the value of --peak-flops or --model-flops",) if value > 1 else ()


def _diagnosis(found: Diagnosis, ratio: float | None) -> Diagnosis:
    saving = found.saving
    if saving is None:
        return found
    low, high = _scaled(saving.mfu_low, ratio), _scaled(saving.mfu_high, ratio)
    return replace(found, saving=replace(saving, mfu_low=low, mfu_high=high))


def _plan(plan: Plan, ratio: float | None) -> Plan:
    return replace(
        plan,
        mfu_low=_scaled(plan.mfu_low, ratio),
        mfu_high=_scaled(plan.mfu_high, ratio),
        steps=tuple(replace(step, mfu=_scaled(step.mfu, ratio)) for step in plan.steps),
    )


def _kernel(row: KernelRow, dtype: str | None, peak: float | None) -> KernelRow:
    if peak is None or row.dtype != dtype or row.achieved_flops_s is None:
        return row
    return replace(row, peak_share=row.achieved_flops_s / peak)


def _scaled(value: float | None, ratio: float | None) -> float | None:
    return None if value is None or ratio is None else value * ratio
