"""The gate: check one or more reports of a run against budgets, rule levels and a baseline.

A check fails only if the value exceeds its budget by more than the noise. If it exceeds it by less, it is "inconclusive". What
cannot be checked at all (no steps, different devices, a budget for an unknown value) is an error and never passes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import Struct, field

from mfu_doctor.comparison.measures import COUNT, SECONDS, SHARE, Budget, Measure, parse_budgets
from mfu_doctor.comparison.samples import (
    NOISE_FACTOR,
    Sample,
    beyond_noise,
    joint_spread,
    measure_sample,
    require_alike,
    step_sample,
)
from mfu_doctor.errors import DoctorError
from mfu_doctor.gate.rule_checks import rule_checks
from mfu_doctor.quantities import change_of, figure, figure_beside, percent, spread_of
from mfu_doctor.result.job_as_run import JOB_STEP
from mfu_doctor.result.report import Report
from mfu_doctor.result.verdict import (
    FAILED,
    INCONCLUSIVE,
    NO_STEPS,
    PASSED,
    STATUSES,
    Check,
    Judged,
    Verdict,
)

__all__ = ["Policy", "Verdict", "check_report", "judge"]

BASELINE_BUDGETS = {"step_time": "+5%"}  # what a baseline is compared on if no budget says otherwise
COUNT_SLACK = 1e-6  # counts per step are medians of whole numbers; this only absorbs float division
MAX_PLACES = 5  # source lines listed under one check


class Policy(Struct, frozen=True, kw_only=True):
    """What the runs are checked against.

    Attributes:
        budgets: the limits.
        levels: off, warn or error by rule name, code or family; the most specific one wins, default warn.
        strict: an inconclusive check fails.
        allow_different: comparability keys in which the runs may differ.
    """

    budgets: tuple[Budget, ...] = ()
    levels: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False
    allow_different: tuple[str, ...] = ()


def check_report(report: Report, *, baseline: Report | None = None, **budgets: str | float) -> Verdict:
    """Judge one report against budgets: ``check_report(report, mfu="30%", step_time="450ms", syncs=0)``.

    Args:
        report: the run.
        baseline: the run that relative budgets ("+5%") refer to.
        budgets: limits by name; see `mfu_doctor.comparison.measures.MEASURES`.

    Raises:
        DoctorError: an unknown budget, a value that cannot be judged, or runs that cannot be compared.
    """
    policy = Policy(budgets=parse_budgets(budgets))
    return judge([report], policy, baseline=[baseline] if baseline is not None else [])


def judge(reports: Sequence[Report], policy: Policy, *, baseline: Sequence[Report] = ()) -> Verdict:
    """Judge the runs of one program together.

    Args:
        reports: one report per run; more runs narrow the noise.
        policy: budgets, levels and strictness.
        baseline: the runs to compare with; one saved report, or several that were run in the same job.

    Raises:
        DoctorError: there is no run, or the runs cannot be compared (the message names the key).
    """
    if not reports:
        raise DoctorError("there is no run to check", "pass at least one trace or report")
    everything = [*baseline, *reports]
    steps = step_sample(reports)
    if baseline:
        step_sample(baseline)
    require_alike(everything, allowed=policy.allow_different)
    checks = [_judge_budget(budget, reports, baseline) for budget in _with_defaults(policy, bool(baseline))]
    checks += rule_checks(reports, policy.levels, baseline)
    checks.sort(key=lambda check: STATUSES.index(check.status))  # stable: keeps budgets before rules, best saving first
    return Verdict(
        checks=tuple(checks),
        judged=_judged(reports, baseline, steps, policy),
        strict=policy.strict,
        cautions=_cautions(everything),
    )


def _with_defaults(policy: Policy, has_baseline: bool) -> tuple[Budget, ...]:
    """The budgets, with those that a baseline brings along if the user set none on the measure."""
    if not has_baseline:
        return policy.budgets
    named = {budget.measure.name for budget in policy.budgets}
    extra = {name: text for name, text in BASELINE_BUDGETS.items() if name not in named}
    return (*policy.budgets, *parse_budgets(extra))


def _judge_budget(budget: Budget, reports: Sequence[Report], baseline: Sequence[Report]) -> Check:
    measure = budget.measure
    if budget.relative and not baseline:
        raise DoctorError(
            f"the budget {budget.name} = {budget.text!r} is relative to a baseline",
            "pass a baseline, or an absolute limit",
        )
    now = measure_sample(reports, measure)
    if now is None:
        raise DoctorError(f"the budget {budget.name} cannot be checked: {_unknown(measure, reports)}", _drop(budget))
    before = measure_sample(baseline, measure) if baseline else None
    if budget.relative and before is None:
        raise DoctorError(f"the budget {budget.name} cannot be checked: {_unknown(measure, baseline)}", _drop(budget))
    limit = budget.bound(before.value if before else None)
    status, why = _status(budget, now, before, limit)
    upper = max((report.mfu.upper or 0.0 for report in reports), default=0.0)
    if measure.name == "mfu" and status == FAILED and upper >= limit:
        status, why = INCONCLUSIVE, f"FLOPs are only partly counted: MFU may be up to {figure(upper, SHARE)}"
    return Check(
        name=budget.name,
        kind="structure" if measure.structural else "budget",
        status=status,
        title=f"{measure.title}, mean of {now.n}" if measure.unit == SECONDS else measure.title,
        summary=_sentence(budget, now, before, limit, why),
        unit=measure.unit,
        value=now.value,
        limit=limit,
        at_least=measure.at_least,
        budget=budget.text,
        baseline=before.value if before else None,
        spread=None if measure.unit == COUNT else now.spread,
        baseline_spread=before.spread if before and measure.unit != COUNT else None,
        change=_change(measure, now, before),
        note=why or None,
        places=() if status == PASSED else _places(measure, reports, baseline),
    )


def _status(budget: Budget, now: Sample, before: Sample | None, limit: float) -> tuple[str, str]:
    """Status and the reason that qualifies it (may be empty)."""
    over = (limit - now.value) if budget.measure.at_least else (now.value - limit)
    if budget.measure.unit == COUNT:
        return (FAILED if over > COUNT_SLACK else PASSED), ""
    compared = budget.relative and before is not None
    spread = joint_spread(now, before) if compared and before is not None else now.spread
    moved = abs(now.value - before.value) if compared and before is not None else abs(over)
    real = beyond_noise(moved, spread)
    if over <= 0:
        return PASSED, _blind(budget, before, spread)
    if real is None and compared:
        return INCONCLUSIVE, "the noise is unknown with so few steps; record more steps or runs"
    if real is None:
        return FAILED, "the noise is unknown with so few steps"
    if real:
        return FAILED, ""
    noise = figure(NOISE_FACTOR * (spread or 0.0), budget.measure.unit)
    return INCONCLUSIVE, f"within the noise of +-{noise}; repeat with more runs"


def _blind(budget: Budget, before: Sample | None, spread: float | None) -> str:
    """A passing comparison whose noise is wider than its budget says so: it could not have seen the regression."""
    if not budget.relative or before is None or spread is None:
        return ""
    noise, allowed = NOISE_FACTOR * spread / before.value, budget.limit
    if noise <= allowed:
        return ""
    return f"the noise of +-{percent(noise)} is larger than the budget, so a regression can remain undetected"


def _sentence(budget: Budget, now: Sample, before: Sample | None, limit: float, why: str) -> str:
    measure = budget.measure
    side = "at least" if measure.at_least else "at most"
    text = f"{measure.title} {'is' if measure.unit != COUNT else 'are'} {figure_beside(now.value, limit, measure.unit)}"
    if now.spread and measure.unit != COUNT:
        text += f" +-{spread_of(now.spread, now.value, measure.unit)}"
    if before is not None:
        text += f", {figure(before.value, measure.unit)} in the baseline"
        change = _change(measure, now, before)
        text += f" ({change_of(change, measure.unit)})" if change is not None else ""
    shown = f"{budget.text} ({figure(limit, measure.unit)})" if budget.relative else figure(limit, measure.unit)
    return f"{text}; budget {side} {shown}" + (f"; {why}" if why else "")


def _change(measure: Measure, now: Sample, before: Sample | None) -> float | None:
    if before is None:
        return None
    if measure.unit != SECONDS:
        return now.value - before.value
    return now.value / before.value - 1


def _places(measure: Measure, reports: Sequence[Report], baseline: Sequence[Report]) -> tuple[str, ...]:
    """Source lines behind a structural count; with a baseline only those that it does not have."""
    known = {place for report in baseline for place in report.places.get(measure.name, ())}
    found = dict.fromkeys(place for report in reports for place in report.places.get(measure.name, ()))
    new = [place for place in found if place not in known]
    return tuple((new or list(found))[:MAX_PLACES])


def _unknown(measure: Measure, reports: Iterable[Report]) -> str:
    if measure.name == "mfu":
        reasons = [report.mfu.reason for report in reports if report.mfu.value is None and report.mfu.reason]
        return reasons[0] if reasons else "MFU is not known for this run"
    if measure.of_job and any(JOB_STEP in report.structure for report in reports):
        return "collectives could not be matched between its ranks, so what they wait for each other is not known"
    if measure.of_job:
        return f"only a job has a {measure.title}: pass the directory of all ranks of a run"
    if measure.structural:
        lacking = [report.run.trace for report in reports if measure.name not in report.structure]
        return f"{lacking[0] if lacking else 'the run'} has no value for the {measure.title}"
    return f"the run has no time breakdown, which the {measure.title} needs"


def _drop(budget: Budget) -> str:
    return f"record the missing data, or remove the budget {budget.name}"


def _judged(reports: Sequence[Report], baseline: Sequence[Report], steps: Sample, policy: Policy) -> Judged:
    first = reports[0]
    return Judged(
        runs=tuple(report.run.trace for report in reports),
        steps=steps.n,
        step_source=_step_source(first),
        device=first.device.name,
        torch=first.run.versions.get("torch"),
        site=first.run.site,
        sentence=_sentence_of(reports),
        baseline=tuple(report.run.trace for report in baseline),
        allowed=policy.allow_different,
    )


def _step_source(report: Report) -> str:
    """How the steps were timed, as in `Judged`; a trace in which none is marked has none."""
    if report.run.steps_source == NO_STEPS:
        return NO_STEPS
    return report.step_time_s.source if report.step_time_s else "trace"


def _sentence_of(reports: Sequence[Report]) -> str | None:
    """The verdict on the run whose step is in the middle."""
    ranked = sorted(reports, key=lambda report: report.step_time_s.stated if report.step_time_s else 0.0)
    verdict = ranked[(len(ranked) - 1) // 2].verdict
    return verdict.sentence if verdict is not None else None


def _cautions(reports: Collection[Report]) -> tuple[str, ...]:
    """Every caveat of the runs, once each."""
    return tuple(dict.fromkeys(caveat.text for report in reports for caveat in report.caveats))
