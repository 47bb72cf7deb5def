"""The sentences about the plan: the saving of all its fixes together, their order, and which fixes are not included."""

from __future__ import annotations

from mfu_doctor import quantities
from mfu_doctor.render.words import wording
from mfu_doctor.result.findings import WIDE, Diagnosis
from mfu_doctor.result.report import Report

_TOLD = 1.05  # a step that many times as fast is worth the words


def together(report: Report, dash: str = "-") -> tuple[str, str] | None:
    """The saving of the fixes applied one after another, and the MFU then; None if there is only the first listed fix."""
    plan = report.plan
    if not plan.steps or plan.saving_high_s <= 0:
        return None
    if len(plan.steps) == 1 and plan.steps[0].rule in {found.rule for found in report.failed}:
        return None
    after = ""
    if plan.mfu_low is not None and plan.mfu_high is not None:
        after = quantities.percent_range(plan.mfu_low, plan.mfu_high, dash=dash)
    return _saved(report, dash), after


def _saved(report: Report, dash: str) -> str:
    plan = report.plan
    if report.savings_are_shares:
        return f"about {quantities.share(plan.saving_s, wording.step_s(report))}"
    is_wide = plan.saving_high_s > WIDE * plan.saving_low_s
    return quantities.estimate(plan.saving_low_s, plan.saving_s, plan.saving_high_s, wide=is_wide, dash=dash)


def in_order(report: Report) -> str:
    """All fixes of the plan in one sentence: the step then, how many times as fast, and the order of the fixes."""
    saved = together(report)
    if saved is None:
        return ""
    before, after = wording.step_s(report), report.plan.steps[-1].step_s
    is_faster = after > 0 and before >= _TOLD * after
    faster = f", {quantities.number(before / after, 2)} times as fast" if is_faster else ""
    steps = f"{quantities.duration(before)} to {quantities.duration(after, 2)}"
    told = f"saves {saved[0]}" if report.savings_are_shares else f"{steps}{faster}"
    then = f", MFU {saved[1]}" if saved[1] else ""
    why = [report.plan.lower_mfu, report.plan.stop if report.plan.at_floor else None]
    return "; ".join([f"All together: {told}{then}: {plan_names(report)}", *(text for text in why if text)])


def plan_names(report: Report) -> str:
    """The fixes of the plan in their order. A fix that saves time only after another one says so."""
    steps = report.plan.steps
    return ", ".join(s.rule + (f" (saves only after {s.pays_after})" if s.pays_after else "") for s in steps)


def plan_notes(report: Report) -> list[str]:
    """Sentences under the plan: where it stops, which fixes are not included, and which could not be simulated."""
    plan = report.plan
    if not plan.steps:
        return list(plan.notes)
    planned = {step.rule for step in plan.steps}
    rest = [found.rule for found in report.failed if found.saving is not None and found.rule not in planned]
    saves = "it saves" if len(rest) == 1 else "they save"
    left = [f"not included: {', '.join(rest)}, because {saves} less than 1 % of the step after these"] if rest else []
    return [*(text for text in (plan.stop, plan.lower_mfu) if text), *left, *plan.notes]


def lower_bound(roofline_s: float) -> str:
    """The step that the kernels of this run could reach at best."""
    best = quantities.duration(roofline_s, 2)
    return f"lower bound (current kernels at their roofline, no idle time): {best} per step"


def unlisted_fixes(report: Report) -> list[Diagnosis]:
    """Fixes of the plan that are not in the list above it, because they save time only after another one."""
    listed = {found.rule for found in report.failed}
    found = [report.diagnosis(step.rule) for step in report.plan.steps if step.rule not in listed]
    return [d for d in found if d is not None and d.fix]


def why_withheld(report: Report, diagnosis: Diagnosis) -> str:
    """Why a fix is not recommended, with its number, and after which other fix it saves time."""
    reason = diagnosis.reason or wording.saving(report, diagnosis)
    after = next((s.pays_after for s in report.plan.steps if s.rule == diagnosis.rule and s.pays_after), None)
    return f"{reason}; saves time after {after}" if after else reason
