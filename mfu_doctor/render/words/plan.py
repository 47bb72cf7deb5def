"""The sentences about the plan: the saving of all its fixes together, their order, and which fixes are not included."""

from __future__ import annotations

from collections.abc import Sequence

from mfu_doctor import quantities
from mfu_doctor.quantities import parts
from mfu_doctor.render.words import wording
from mfu_doctor.result.findings import (
    ABOUT,
    GUESSED,
    UP_TO,
    WIDE,
    WORTH_TELLING,
    Diagnosis,
    PlanStep,
    Saving,
    told_high,
)
from mfu_doctor.result.report import Report

LARGE = 0.05  # of the step: a fix that saves as much is never only named
AT_STAKE = "at stake: find out first"
_LEAST_MFU = 0.001  # a run that hardly multiplies matrices is not judged by it


def _is_wide(report: Report) -> bool:
    """Whether the best estimate alone would hide how far apart the ends are, of what is saved or of what is left."""
    plan, whole = report.plan, report.step_s
    high = told_high(plan.saving_s, plan.saving_high_s)
    return high > WIDE * plan.saving_low_s or whole - plan.saving_low_s > WIDE * (whole - high)


def _kind(report: Report) -> str:
    """What stands before the best estimate: as of a saving alone, or as in the row of a fix that leaves open how much goes."""
    plan = report.plan
    if _is_wide(report):
        return UP_TO if told_high(plan.saving_s, plan.saving_high_s) == plan.saving_s else ABOUT
    savings = [found.saving for step in plan.steps if (found := report.diagnosis(step.rule)) is not None]
    words = {saving.about for saving in savings if saving is not None and saving.at_best}
    return next((word for word in (ABOUT, UP_TO) if word in words), "")


def steps_after(report: Report) -> list[float]:
    """The step after each fix and all before it, by the figures that are told: a reader who subtracts gets the same."""
    steps = report.plan.steps
    saved = [step.saving_s for step in steps]
    left = [parts.left_of(report.step_s, saved[: i + 1]) for i in range(len(steps))]
    return [told if told > 0 else step.step_s for told, step in zip(left, steps, strict=True)]


def step_after(report: Report, found: Saving, dash: str = "-") -> str:
    """The step after a fix, by the figures that are told of its saving."""
    whole, ends = report.step_s, found.ends or (found.mid, found.mid)
    shortest, longest = (max(parts.left_of(whole, [end]), 0.0) for end in reversed(ends))
    return parts.part_range(shortest, longest, whole, dash)


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
    why = f"; {plan.stop}" if plan.at_floor and plan.stop else ""
    return f"All together: {told}{_mfu_then(report, dash)}: {plan_names(report)}{why}"


def _mfu_then(report: Report, dash: str) -> str:
    """MFU after all fixes, with its range where that of the step is told, and what it is of if not of what it is today."""
    plan, last = report.plan, report.plan.steps[-1].mfu
    low, high = last or 0.0, last or 0.0
    if _is_wide(report):
        low, high = plan.mfu_low or 0.0, high if _kind(report) == UP_TO else plan.mfu_high or 0.0
    if high < _LEAST_MFU:
        return ""
    of = f" ({plan.lower_mfu})" if plan.lower_mfu else ""
    return f", MFU {quantities.percent_range(low, high, dash=dash)}{of}"


def _share_saved(report: Report) -> str:
    return f"about {quantities.share(report.plan.saving_s, report.step_s)}"


def _then(report: Report, dash: str) -> str:
    """The step before and after, and how many times as fast that is; the range of the step where it is wide."""
    before, plan, kind = report.step_s, report.plan, _kind(report)
    after = steps_after(report)[-1]
    shortest = after if kind == UP_TO else max(parts.left_of(before, [plan.saving_high_s]), 0.0)
    ends = parts.part_range(shortest, parts.left_of(before, [plan.saving_low_s]), before, dash=dash)
    to = {ABOUT: "to about", UP_TO: "down to"}.get(kind, "to")
    steps = f"{quantities.duration(before)} {to} {parts.part_alone(after, before)}"
    steps += f" ({ends})" if _is_wide(report) else ""
    times = parts.times_as_fast(before, after) if after > 0 else 0.0
    faster = f"{kind} {quantities.number(times, 2)} times as fast".lstrip()
    return f"{steps}, {faster}" if times >= WORTH_TELLING else steps


def plan_names(report: Report) -> str:
    """The fixes of the plan in their order, each with what it adds, and what to know of that amount."""
    whole, told = report.step_s, []
    for index, step in enumerate(report.plan.steps):
        as_share = report.savings_are_shares
        saves = quantities.share(step.saving_s, whole) if as_share else parts.part_alone(step.saving_s, whole)
        told.append(f"{step.rule} {saves}{' more' if index else ''}{_why_more(report, step)}")
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
    more = parts.part_alone(step.saving_s, report.step_s)
    if report.savings_are_shares:
        more = quantities.share(step.saving_s, report.step_s)
    return f"alone; {more} after those above"


def in_short(after: str) -> str:
    """The same where there is room for a word or two: "alone", "at stake"."""
    return after.partition(";")[0].partition(":")[0]


def _why_more(report: Report, step: PlanStep) -> str:
    """That it is a guess; after which fix it saves time at all, or what it saves alone where others make it save more."""
    found, told = report.diagnosis(step.rule), list[str]()
    if found is not None and found.sure == GUESSED:
        told.append(GUESSED)
    saving = found.saving if found is not None and not report.savings_are_shares else None
    if step.pays_after:
        told.append(f"only after {step.pays_after}")
    elif saving is not None and step.saving_s > WIDE * saving.mid:
        told.append(f"{parts.part_alone(saving.mid, report.step_s)} alone")
    return f" ({'; '.join(told)})" if told else ""


def plan_notes(report: Report) -> list[str]:
    """Sentences under the plan: where it stops, and which fixes could not be simulated."""
    plan = report.plan
    if not plan.steps:
        return list(plan.notes)
    return [*([plan.stop] if plan.stop else []), *plan.notes]


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
    """What all fixes are called that are not recommended, in counts and over their list."""
    return "small or unsure" if report.unsure else "too small"


def why_withheld(report: Report, diagnosis: Diagnosis) -> str:
    """Why a fix is not recommended, with its number, and after which other fix it saves time."""
    reason = diagnosis.reason or wording.saving(report, diagnosis)
    after = next((s.pays_after for s in report.plan.steps if s.rule == diagnosis.rule and s.pays_after), None)
    return f"{reason}; saves time after {after}" if after else reason
