"""The prediction check: what BEFORE predicted for the applied fixes, beside what AFTER measured."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from mfu_doctor.comparison.samples import NOISE_FACTOR, Sample, joint_spread
from mfu_doctor.errors import DoctorError, suggest
from mfu_doctor.quantities import duration
from mfu_doctor.result.report import Report

HELD, BETTER, SHORT = "came true", "was exceeded", "fell short"


class Prediction(Struct, frozen=True, kw_only=True):
    """The step that the run before predicted for the fixes that were applied, beside the step that was measured.

    Attributes:
        fixes: rules whose finding is gone, or those that the user named.
        predicted_s: step time, middle of the predicted range.
        low_s: step time if the saving was at its high end.
        high_s: step time if the saving was at its low end.
        measured_s: step time of the run after.
        error: predicted over measured, minus 1.
        noise_s: how far the two step times can be apart by chance: what the outcome allows beyond the range.
        outcome: one of `HELD`, `BETTER`, `SHORT`; None if nothing was predicted.
        reason: why nothing was predicted.
    """

    fixes: tuple[str, ...] = ()
    predicted_s: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    measured_s: float | None = None
    error: float | None = None
    noise_s: float | None = None
    outcome: str | None = None
    reason: str | None = None


def applied_fixes(before: Report, fixes: Sequence[str]) -> tuple[str, ...]:
    """The rules that the user named, checked against what the run before found.

    Raises:
        DoctorError: the run before has no such finding.
    """
    found = [d.rule for d in before.failed]
    for rule in fixes:
        if rule not in found:
            remedy = suggest(rule, found) if found else "omit --fix, because the report has no findings"
            raise DoctorError(f"{before.run.trace} has no finding {rule!r}", remedy)
    return tuple(fixes)


def predict(before: Report, old: Sample, new: Sample, fixes: tuple[str, ...]) -> Prediction:
    """What BEFORE predicted for these fixes, beside what AFTER measured.

    Args:
        before: the report with the predictions.
        old: its step time in seconds.
        new: the step time of the run after.
        fixes: the rules whose fix was applied.
    """
    if not fixes:
        reason = "AFTER still has every finding of BEFORE, so no fix can be checked"
        return Prediction(reason=reason, measured_s=new.value)
    saved = _promised(before, fixes)
    if saved is None:
        return Prediction(fixes=fixes, measured_s=new.value, reason=_no_promise(before, fixes))
    slow, middle, quick = (old.value - part for part in saved)
    noise = NOISE_FACTOR * (joint_spread(old, new) or 0.0)
    if noise >= saved[1]:
        told = (
            f"the predicted saving of {duration(saved[1], 2)} is not larger than the noise (+-{duration(noise, 2)}): "
            "repeat with more runs"
        )
        return Prediction(fixes=fixes, measured_s=new.value, reason=told)
    within = slow + noise >= new.value >= quick - noise
    return Prediction(
        fixes=fixes,
        predicted_s=middle,
        low_s=quick,
        high_s=slow,
        measured_s=new.value,
        error=middle / new.value - 1,
        noise_s=noise,
        outcome=HELD if within else SHORT if new.value > slow else BETTER,
    )


def _promised(before: Report, fixes: tuple[str, ...]) -> tuple[float, float, float] | None:
    """Low, middle and high saving in seconds for these fixes together: one fix's own price, or a start of the plan.

    Savings are never summed: several fixes have a price only if the plan replayed them one after the other.
    """
    covered = {overlap.rule for overlap in before.plan.overlaps if overlap.covered_by in fixes}
    fixes = tuple(rule for rule in fixes if rule not in covered)  # what saves too little after another one adds nothing
    if len(fixes) == 1:
        found = before.diagnosis(fixes[0])
        return (found.saving.low, found.saving.mid, found.saving.high) if found and found.saving else None
    steps = before.plan.steps[: len(fixes)]
    if {planned.rule for planned in steps} != set(fixes):
        return None
    whole = sum(planned.saving_s for planned in steps)  # each is against the step before it, so this is one difference
    if len(steps) == len(before.plan.steps) and before.plan.saving_high_s >= whole >= before.plan.saving_low_s > 0:
        return before.plan.saving_low_s, whole, before.plan.saving_high_s
    return whole, whole, whole


def _no_promise(before: Report, fixes: tuple[str, ...]) -> str:
    if len(fixes) > 1:
        return f"BEFORE has no prediction for {' and '.join(fixes)} together"
    if before.replay.reason and not before.replay.trusted:
        return before.replay.reason
    return f"BEFORE has no predicted saving for {fixes[0]}"
