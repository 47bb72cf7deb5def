"""What the runs of each fix found, as it stands in a report."""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.result.report import Report
from mfu_doctor.result.trial import DIVERGES, DRIFTS, NOT_A_NUMBER, REFUSED, Tried
from mfu_doctor.trial.remedies.remedy import Chosen, Numerics
from mfu_doctor.trial.turns import Arm, Turns

_KEEPS = (Numerics.SAME, Numerics.ORDER, Numerics.ROUNDING)  # what a program learns with such a fix is the same


def refusal(turns: Turns, arm: Arm) -> str | None:
    """Why it is refused whatever it gains; None if it is not."""
    change = turns.losses(arm)
    if change is None:
        return None
    step = _step_of(turns, change.at)
    if change.kind == NOT_A_NUMBER:
        return f"the loss is not a number from step {step} on"
    if change.kind == DIVERGES:
        return f"the loss rises above all losses of the unchanged program (it differs from step {step} on)"
    if change.kind == DRIFTS and all(fix.remedy.numerics in _KEEPS for fix in arm.fixes):
        return f"it should not change what is learnt, and the loss is another one from step {step} on"
    return None


def tried(turns: Turns, arm: Arm, report: Report) -> Tried:
    """All that is known of it."""
    why, failure = refusal(turns, arm), arm.failure
    known = described(arm, report, turns.step_s)
    if failure is None and not arm.runs:
        return replace(known, reason=turns.ended)
    change, losses = turns.change(arm), turns.losses(arm)
    low, middle, high = change.of(turns.step_s) if change is not None else (None, None, None)
    return replace(
        known,
        verdict=failure.kind if failure is not None else REFUSED if why is not None else turns.verdict(arm),
        reason=failure.reason if failure is not None else why,
        saving_low_s=low,
        saving_s=middle,
        saving_high_s=high,
        noise_s=turns.noise_s(arm),
        step_s=turns.step_with(arm),
        runs=len(arm.runs),
        loss=losses.kind if losses is not None else None,
        loss_step=_step_of(turns, losses.at) if losses is not None else None,
        loss_change=losses.most if losses is not None else None,
        start_s=turns.start_s(arm),
    )


def rule_of(chosen: Chosen, report: Report) -> str | None:
    """The rule whose finding it answers here: the one that saves most; None if none of them has a finding."""
    savings = {d.rule: d.saving for d in report.diagnoses if d.rule in chosen.remedy.answers and d.saving is not None}
    return max(savings, key=lambda rule: savings[rule].expected, default=None)


def left_out_for(fix: Chosen, report: Report, reason: str) -> Tried:
    """What is known of a fix that is not tried; nothing is predicted of one that does not apply here."""
    known = described(Arm((fix,)), report, 0.0)
    return replace(known, reason=reason, predicted_low_s=None, predicted_s=None, predicted_high_s=None)


def described(arm: Arm, report: Report, step_s: float) -> Tried:
    """What is known before any run with it.

    Args:
        arm: what is tried.
        report: of the recording.
        step_s: the unchanged step: what a saving is a share of, where the recording tells only shares.
    """
    alone = arm.fixes[0]
    rule = rule_of(alone, report) if len(arm.fixes) == 1 else None
    found = report.diagnosis(rule) if rule is not None else None
    saving = found.saving if found is not None else None
    scale = step_s / report.step_s if report.savings_are_shares else 1.0
    return Tried(
        fixes=arm.names,
        rule=rule,
        words="; ".join(fix.words for fix in arm.fixes),
        line="\n".join(fix.line for fix in arm.fixes),
        numerics="; ".join(dict.fromkeys(fix.remedy.numerics.value for fix in arm.fixes)),
        samples=arm.samples,
        predicted_low_s=scale * saving.low if saving is not None else None,
        predicted_s=scale * saving.mid if saving is not None else None,
        predicted_high_s=scale * saving.high if saving is not None else None,
    )


def _step_of(turns: Turns, at: int | None) -> int | None:
    """The number of the step that a loss belongs to, from 1."""
    return None if at is None else turns.unchanged[0].loss_steps[at]
