"""What each rule's outcome becomes in the report: findings in rank order, cautions, passed rules, rules that were not checked.

Every rule that ran is in the report with a status. So a rule without a finding was checked and found nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.mean_step import MeanStep
from mfu_doctor.diagnosis.pricing import CONFIDENCE, Priced, causes
from mfu_doctor.diagnosis.rule_runner import Examined
from mfu_doctor.quantities import duration, duration_range, percent
from mfu_doctor.result.findings import CRASHED, FAILED, NOT_MEASURED, PASSED, WITHHELD, Diagnosis, Saving
from mfu_doctor.result.step import LONG
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Skip

# A count of so many is known to half of itself (two standard deviations, the square root each).
ENOUGH_LONG = 16


def diagnoses(examined: list[Examined], ranked: list[Priced], run: Run) -> Iterable[Diagnosis]:
    """Findings in rank order, then everything else in catalogue order.

    Only a finding that would fail is folded under its cause: what is withheld has a line of its own with its reason.
    """
    failing = {p.rule.name for p in ranked if p.worth}
    roots = {name: root for name, root in causes(ranked).items() if name in failing}
    for priced in ranked:
        yield _priced_diagnosis(priced, roots, run)
    done = {p.rule.name for p in ranked}
    for e in examined:
        if e.rule.name not in done:
            yield unpriced_diagnosis(e)


def _priced_diagnosis(priced: Priced, roots: dict[str, str], run: Run) -> Diagnosis:
    rule, finding, saving = priced.rule, priced.finding, priced.saving
    if priced.error is not None:
        return Diagnosis(rule=rule.name, code=rule.code, status=CRASHED, summary=finding.summary, reason=priced.error)
    reason = finding.withhold
    if not priced.worth and reason is None and saving is not None:
        reason = _too_little(saving, priced.noise, WORTH_SHARE * run.mfu.step_s)
    if saving is None and finding.change is not None and run.replay.distrust is not None:
        reason = f"no saving predicted: {run.replay.distrust}"
    return Diagnosis(
        rule=rule.name,
        code=rule.code,
        status=FAILED if priced.worth else WITHHELD,
        summary=finding.summary,
        reason=reason,
        fix=finding.fix,
        detail=_with(finding.detail, priced.then_of),
        effort=finding.effort,
        risk=finding.risk,
        trades=finding.is_choice,
        confidence=_confidence(finding, run),
        saving=saving,
        decides=finding.decides,
        throughput_gain=finding.throughput_gain,
        evidence=finding.evidence,
        place=finding.place,
        explains=tuple(name for name, root in roots.items() if root == rule.name),
        explained_by=roots.get(rule.name),
    )


def _confidence(finding: Finding, run: Run) -> str:
    """How well the saving is known. One step need not be like the others: what is predicted from it is known a level less."""
    level = CONFIDENCE.index(finding.confidence) + (int(run.steps.steady.sum()) == 1)
    known: str = CONFIDENCE[min(level, len(CONFIDENCE) - 1)]
    return known


def _with(detail: str | None, then_of: str | None) -> str | None:
    """The detail with what MFU after the fix is of, if not of what it is today."""
    if then_of is None:
        return detail
    why = f"MFU is then {then_of}"
    return f"{detail.rstrip('.')}; {why}" if detail else why


def _too_little(saving: Saving, noise: float | None, least_s: float) -> str:
    """Why a saving is not worth its fix; `least_s` is what would be."""
    found = duration_range(saving.low, saving.high)
    if noise is not None:
        return f"the predicted saving is {found} per step, and two runs like this one differ by {percent(noise)} anyway"
    if saving.high >= least_s:
        return f"the predicted saving is {found} per step: at its low end too little"
    return "no saving is predicted" if found == duration(0.0) else f"the predicted saving is only {found} per step"


def unpriced_diagnosis(e: Examined) -> Diagnosis:
    """A caution, a passed rule, a rule that could not be checked, or one that crashed."""
    if e.error is not None:
        return Diagnosis(rule=e.rule.name, code=e.rule.code, status=CRASHED, reason=e.error, caution=e.rule.caution)
    if isinstance(e.outcome, Skip):
        return Diagnosis(
            rule=e.rule.name, code=e.rule.code, status=NOT_MEASURED, reason=e.outcome.reason, caution=e.rule.caution
        )
    if isinstance(e.outcome, Finding):
        f = e.outcome
        return Diagnosis(
            rule=e.rule.name,
            code=e.rule.code,
            status=FAILED,
            summary=f.summary,
            fix=f.fix,
            detail=f.detail,
            evidence=f.evidence,
            caution=True,
            spoils=f.spoils,
        )
    return Diagnosis(
        rule=e.rule.name, code=e.rule.code, status=PASSED, summary=f"not found: {e.rule.title}", caution=e.rule.caution
    )


def _how_sure(mean: MeanStep) -> str:
    """How well the share of long steps is known: of few long ones only roughly (the count varies by its square root)."""
    long = f"{mean.long} of {mean.count} steps took more than {LONG:g} times the median"
    if mean.every is not None:
        return f"{long}, one in {mean.every}: they are part of the mean step"
    if mean.long >= ENOUGH_LONG:
        return f"{long}: they are part of the mean step"
    return f"{long}: how often this happens in the whole run, and so the mean step, is known only roughly"


def cautions(run: Run, examined: list[Examined]) -> tuple[str, ...]:
    """What limits the numbers, most important first."""
    said = [e.outcome.summary for e in examined if e.rule.caution and isinstance(e.outcome, Finding)]
    if run.steps.note is not None:
        said.append(run.steps.note)
    if run.mean_step.long:
        said.append(_how_sure(run.mean_step))
    said.extend(run.peaks.warnings)
    if run.facts is not None:
        said.extend(run.facts.notes)
    return tuple(dict.fromkeys(said))
