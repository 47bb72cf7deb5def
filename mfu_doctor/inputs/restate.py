"""A saved report with another peak or another number of FLOPs per step: the values proportional to them, calculated again.

MFU values are ratios and can be recalculated exactly. Findings cannot, because rules compare with the peak: they remain as they
were saved. The waterfall is left out. The report says so.
"""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.devices.dtypes import DTYPES
from mfu_doctor.devices.peaks import GIVEN
from mfu_doctor.devices.resolve import peaks_with
from mfu_doctor.diagnosis.concluded import concluded
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.settings import Settings
from mfu_doctor.quantities import flop_count, peak_rate
from mfu_doctor.result.findings import FAILED, PASSED, Diagnosis, Plan
from mfu_doctor.result.report import Baseline, Report
from mfu_doctor.result.run import Convention, DeviceInfo, Mfu
from mfu_doctor.result.stated_mfu import NOT_STATED, as_stated, peak_share
from mfu_doctor.result.step import KernelRow

_JUDGED = "the findings are not recalculated: pass the trace to update them"
_MIXED = "the run used several dtypes with different peaks: pass the trace instead of the report"
_CHECK = "check the value of --peak-flops or --model-flops"
_ROUNDING = 1e-6  # relative: a report keeps its numbers in full
_UNKNOWN_PEAK = "unknown-peak"  # the rule whose finding a stated peak answers
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
    nothing_new = (peak is None and flops is None) or report.device.unseen is not None
    return report if nothing_new else _restated(report, peak, flops)


def _restated(report: Report, peak: float | None, flops: float | None) -> Report:
    """The report with a new peak, new FLOPs a step, or both; None keeps what it has."""
    mfu = _mfu(report, peak, flops)
    if mfu.model_flops != flops:
        flops = None  # FLOPs of a report without a step say nothing
    if peak is None and flops is None:
        return report
    device = report.device if peak is None else _device(report.device, peak)
    ratio = mfu.value / report.mfu.value if mfu.value and report.mfu.value else None
    gone = bool(report.waterfall) or mfu.value is not None
    changed = replace(
        report,
        device=device,
        mfu=mfu,
        waterfall=(),
        waterfall_note=_NO_WATERFALL if gone else report.waterfall_note,
        diagnoses=tuple(_diagnosis(d, ratio, peak) for d in report.diagnoses),
        plan=_plan(report.plan, ratio),
        kernels=report.kernels if peak is None else tuple(_kernel(row, device.peaks) for row in report.kernels),
        baseline=_baseline(report, mfu, peak, flops),
        cautions=(*_still_true(report, peak), _caution(mfu, peak, flops)),
    )
    return concluded(changed)


def _device(old: DeviceInfo, peak: float) -> DeviceInfo:
    """The device with the stated peak, which is of the dtype in use, whatever that is."""
    if old.kind == "cpu":
        # One value for every dtype.
        peaks = dict.fromkeys((*old.peaks, old.dtype or "fp32") if old.peaks else DTYPES, peak)
    else:
        peaks = peaks_with(old.peaks, old.peak_flops, peak)
    return replace(
        old, dtype=None, peak_flops=peak, peak_source=GIVEN, peak_reason=None, peak_measured=False, peaks=peaks
    )


def _mfu(report: Report, peak: float | None, flops: float | None) -> Mfu:
    """MFU of the same step; without a step or FLOPs it stays what it was."""
    old, step, reference = report.mfu, report.step_time_s, report.device.peak_flops
    work, against = flops or old.model_flops, peak or reference
    if work is None or step is None or not step.stated > 0:
        return old
    achieved = work / step.stated
    if flops is not None:
        value = achieved / against if against is not None else None
        reason = report.device.peak_reason or old.reason if value is None else None
        given = Mfu(value=value, model_flops=work, method="given", achieved_flops_s=achieved, reason=reason)
        return as_stated(given, cause=_CHECK)
    if against is None:
        return old
    scale = reference / against if reference is not None else None
    if old.reason == _MIXED:
        return _proportional(old, None, scale)
    before = old.value or old.calculated
    if not before or reference is None:
        return _proportional(old, achieved / against, None)
    if abs(achieved / reference / before - 1) > _ROUNDING:
        return _proportional(old, None, scale)
    return _proportional(old, _scaled(before, scale), scale)


def _proportional(old: Mfu, value: float | None, scale: float | None) -> Mfu:
    """MFU against another peak.

    Args:
        old: as it was saved.
        value: the new MFU; None if kernels of several dtypes, each with its own peak, hide it.
        scale: the old peak over the new one; None if there was no old one.
    """
    rest = scale if value is not None else None
    hfu = _scaled(old.hfu, rest)
    before = old.value if old.value is not None else old.calculated
    unknown = old.upper - before if old.upper is not None and before is not None else None
    now = replace(
        old,
        value=value,
        calculated=None,
        upper=max(min(value + unknown, 1.0), value) if value is not None and unknown is not None else None,
        hfu=hfu,
        causal=_scaled(old.causal, rest),
        by_dtype=None,
        reason=_MIXED if value is None else None,
        notes=tuple(note for note in old.notes if NOT_STATED not in note),
        conventions=tuple(Convention(name=c.name, flops=c.flops, mfu=_scaled(c.mfu, scale)) for c in old.conventions),
    )
    return as_stated(now, cause=_CHECK)


def _diagnosis(found: Diagnosis, ratio: float | None, peak: float | None) -> Diagnosis:
    if peak is not None and found.rule == _UNKNOWN_PEAK and found.status == FAILED:
        said = "not found: the peak of the device is unknown"
        return Diagnosis(rule=found.rule, code=found.code, status=PASSED, summary=said, caution=found.caution)
    saving = found.saving
    if saving is None:
        return found
    low, high = _after_fix(saving.mfu_low, ratio), _after_fix(saving.mfu_high, ratio)
    return replace(found, saving=replace(saving, mfu_low=low, mfu_high=high))


def _plan(plan: Plan, ratio: float | None) -> Plan:
    return replace(
        plan,
        mfu_low=_after_fix(plan.mfu_low, ratio),
        mfu_high=_after_fix(plan.mfu_high, ratio),
        steps=tuple(replace(step, mfu=_after_fix(step.mfu, ratio)) for step in plan.steps),
    )


def _kernel(row: KernelRow, peaks: dict[str, float]) -> KernelRow:
    peak = peaks.get(row.dtype) if row.dtype is not None else None
    return replace(row, peak_share=peak_share(row.kind, row.achieved_flops_s, peak))


def _baseline(report: Report, mfu: Mfu, peak: float | None, flops: float | None) -> Baseline | None:
    """The baseline against the same new peak; its FLOPs are not in the report, so its MFU is unknown if they change."""
    old, reference = report.baseline, report.device.peak_flops
    if old is None:
        return None
    if flops is not None or peak is None or reference is None or mfu.reason == _MIXED:
        return replace(old, mfu=None)
    return replace(old, mfu=_scaled(old.mfu, reference / peak))


def _still_true(report: Report, peak: float | None) -> tuple[str, ...]:
    """The cautions without those that this restatement replaces or answers."""
    unknown = report.diagnosis(_UNKNOWN_PEAK)
    answered = unknown.summary if peak is not None and unknown is not None and unknown.status == FAILED else None
    return tuple(text for text in report.cautions if text != answered and not text.endswith(_JUDGED))


def _caution(mfu: Mfu, peak: float | None, flops: float | None) -> str:
    said = [] if peak is None else [f"a peak of {peak_rate(peak)}"]
    said += [] if flops is None else [f"{flop_count(flops)} per step"]
    stated = " and ".join(said)
    if mfu.value is None:
        return f"this report now uses {stated}, but MFU is still unknown; {_JUDGED}"
    return f"MFU is recalculated for {stated}; {_JUDGED}"


def _after_fix(value: float | None, ratio: float | None) -> float | None:
    """MFU after a fix; None above 100 %, where a new diagnosis would predict a smaller saving instead."""
    then = _scaled(value, ratio)
    return then if then is not None and then <= 1 + _ROUNDING else None


def _scaled(value: float | None, ratio: float | None) -> float | None:
    return None if value is None or ratio is None else value * ratio
