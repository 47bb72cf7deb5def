"""The sentences about the plan: the saving of all its fixes together, their order, and which fixes are not included."""

from __future__ import annotations

from collections.abc import Sequence

from mfu_doctor import quantities
from mfu_doctor.render.words import wording
from mfu_doctor.result.findings import WIDE, WORTH_TELLING, Diagnosis, Plan, PlanStep, about
from mfu_doctor.result.report import Report

LARGE = 0.05  # of the step: a fix that saves as much is never only named
AT_STAKE = "at stake: find out first"
_LEAST_MFU = 0.001  # a run that hardly multiplies matrices is not judged by it


def _about(plan: Plan) -> str:
    return about(plan.saving_low_s, plan.saving_s, plan.saving_high_s)


def _bound(report: Report, step: PlanStep) -> str:
    """What stands before a saving of the plan whose fix leaves open how much of a loss goes."""
    found = report.diagnosis(step.rule)
    return "up to " if found is not None and found.saving is not None and found.saving.at_best else ""


def in_order(report: Report, dash: str = "-") -> str:
    """All fixes of the plan in one sentence: the step then, how many times as fast, what each adds.

    Empty if the first listed fix is all.
    """
    plan = report.plan
    if not plan.steps or plan.saving_high_s <= 0:
        return ""
    first = plan.steps[0].rule
    if len(plan.steps) == 1 and first in {found.rule for found in report.failed}:
        return f"All together: no more than {first} alone" if plan.overlaps else ""
    told = f"saves {_share_saved(report)}" if report.savings_are_shares else _then(report, dash)
    mfu = (plan.mfu_low, plan.mfu_high)
    is_told = (mfu[1] or 0.0) >= _LEAST_MFU
    after = f", MFU {quantities.percent_range(mfu[0] or 0.0, mfu[1] or 0.0, dash=dash)}" if is_told else ""
    why = (plan.lower_mfu, plan.stop if plan.at_floor else None)
    return "; ".join([f"All together: {told}{after}: {plan_names(report)}", *(text for text in why if text)])


def _share_saved(report: Report) -> str:
    return f"about {quantities.share(report.plan.saving_s, report.step_s)}"


def _then(report: Report, dash: str) -> str:
    """The step before and after, and how many times as fast that is; the range of the step where it is wide."""
    before, plan = report.step_s, report.plan
    after, wide = plan.steps[-1].step_s, _about(plan)
    kind = wide or next((bound.strip() for step in plan.steps if (bound := _bound(report, step))), "")
    ends = quantities.duration_range(before - plan.saving_high_s, before - plan.saving_low_s, dash=dash)
    to = {"about": "to about", "up to": "down to"}.get(kind, "to")
    steps = f"{quantities.duration(before)} {to} {quantities.duration(after, 2)}" + (f" ({ends})" if wide else "")
    is_faster = after > 0 and before >= WORTH_TELLING * after
    kind += " " if kind else ""
    return steps + (f", {kind}{quantities.number(before / after, 2)} times as fast" if is_faster else "")


def plan_names(report: Report) -> str:
    """The fixes of the plan in their order, each with what it adds, and how that comes if its row tells of much less."""
    whole, told = report.step_s, []
    for index, step in enumerate(report.plan.steps):
        as_share = report.savings_are_shares
        saves = quantities.share(step.saving_s, whole) if as_share else quantities.duration(step.saving_s, 2)
        told.append(f"{step.rule} {_bound(report, step)}{saves}{' more' if index else ''}{_why_more(report, step)}")
    return ", ".join(told)


def after_others(report: Report, found: Diagnosis) -> str:
    """What a fix adds to those listed above it, if that is much less than what it saves alone; empty if it is not.

    Savings that overlap, one under the other, read as a sum. What is a question saves nothing by itself.
    """
    if found.saving is not None and found.is_question:
        return AT_STAKE
    if found.saving is None or not report.plan.steps:
        return ""  # the row of a fix without an estimate says so
    if found.rule not in {step.rule for step in report.plan.steps}:
        overlap = next((overlap for overlap in report.plan.overlaps if overlap.rule == found.rule), None)
        # Without one it was never simulated after the others: the notes of the plan say why.
        return f"alone; too little after {overlap.covered_by or 'the others'}" if overlap is not None else ""
    step = next((step for step in report.plan.steps[1:] if step.rule == found.rule), None)
    if step is None or found.saving.mid <= WIDE * step.saving_s:
        return ""
    more = quantities.duration(step.saving_s, 2)
    if report.savings_are_shares:
        more = quantities.share(step.saving_s, report.step_s)
    return f"alone; {more} after those above"


def in_short(after: str) -> str:
    """The same where there is room for a word or two: "alone", "at stake"."""
    return after.partition(";")[0].partition(":")[0]


def _why_more(report: Report, step: PlanStep) -> str:
    """After which fix it saves time at all; or what it saves alone, where the fixes before it let it save much more."""
    if step.pays_after:
        return f" (only after {step.pays_after})"
    found = report.diagnosis(step.rule)
    if found is None or found.saving is None or step.saving_s <= WIDE * found.saving.mid or report.savings_are_shares:
        return ""
    return f" ({quantities.duration(found.saving.mid, 2)} alone)"


def plan_notes(report: Report) -> list[str]:
    """Sentences under the plan: where it stops, and which fixes could not be simulated."""
    plan = report.plan
    if not plan.steps:
        return list(plan.notes)
    return [*(text for text in (plan.stop, plan.lower_mfu) if text), *plan.notes]


def lower_bound(roofline_s: float) -> str:
    """The step that the kernels of this run could reach at best."""
    best = quantities.duration(roofline_s)
    return f"lower bound (no idle time, current kernels at their roofline as far as it is known): {best} per step"


def large(report: Report, found: Sequence[Diagnosis]) -> list[Diagnosis]:
    """Those of these fixes that are worth a row however short the list is: the smaller ones are named with what they save."""
    least = LARGE * report.step_s
    return [d for d in found if d.saving is None or d.saving.mid >= least]


def unlisted_fixes(report: Report) -> list[Diagnosis]:
    """Fixes of the plan that are not in the list above it, because they save time only after another one."""
    listed = {found.rule for found in report.failed}
    found = [report.diagnosis(step.rule) for step in report.plan.steps if step.rule not in listed]
    return [d for d in found if d is not None and d.fix]


def held_back(report: Report) -> str:
    """What is said of all fixes that are not recommended."""
    return "saves too little here" + (", or may" if report.unsure else "")


def why_withheld(report: Report, diagnosis: Diagnosis) -> str:
    """Why a fix is not recommended, with its number, and after which other fix it saves time."""
    reason = diagnosis.reason or wording.saving(report, diagnosis)
    after = next((s.pays_after for s in report.plan.steps if s.rule == diagnosis.rule and s.pays_after), None)
    return f"{reason}; saves time after {after}" if after else reason
