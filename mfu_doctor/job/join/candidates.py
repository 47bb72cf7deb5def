"""What could be mended in a job, before it is priced: faults between ranks, and the ranks' own findings on all that have them.

If a late rank's own finding names why it is late, both are one: the fault between ranks has the sentence, and that has the fix.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.diagnosis.rule_runner import attempt
from mfu_doctor.job.across.edits import JobChange, JobEdit
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.summary import Mended, RankSummary
from mfu_doctor.result.caveats import Caveat
from mfu_doctor.result.findings import CRASHED, FAILED, NOT_MEASURED, Diagnosis, asks
from mfu_doctor.result.job import JobFinding, Unjudged
from mfu_doctor.rules.contract import WORTH_SHARE, Skip
from mfu_doctor.rules.families import Family, family_of
from mfu_doctor.rules.job_contract import JobFault, JobRule

# Whose rules name the cause of a lateness, by the bucket of its owner; of all else it is the host's.
_ABOUT = {
    "data_loading": (Family.INPUT,),
    "memory_copy": (Family.INPUT, Family.HOST),
    "compute": (Family.DEVICE, Family.KERNELS, Family.HOST),
}
_OTHERWISE = (Family.HOST,)
_MORE = 2.0  # times as much as on the others: then it is what a late rank has and they have not


class Candidate(Struct, frozen=True):
    """A finding without its price, and what it changes; None: it has no price, and the finding says why.

    Attributes:
        found: without a saving.
        change: on the ranks that it names.
        everywhere: on all ranks that have it; None: the same.
        at_best: as in `Saving`.
    """

    found: JobFinding
    change: JobChange | None
    everywhere: JobChange | None = None
    at_best: bool = False


class Candidates(Struct, frozen=True):
    """All of them, one caveat for each rule that crashed, the codes of those that found nothing, and what nobody could judge."""

    found: tuple[Candidate, ...]
    crashed: tuple[Caveat, ...]
    passed: dict[str, str]
    unjudged: tuple[Unjudged, ...]


def candidates_of(job: Job, rules: Iterable[JobRule]) -> Candidates:
    """The faults that these rules find between ranks, and the findings of the ranks that are not about the same."""
    where = _where(job)
    found: list[Candidate] = []
    crashed: list[Caveat] = []
    said: dict[str, set[int]] = {}
    passed, unjudged = _passed(job), _unjudged(job)
    for rule in rules:
        outcome, error = attempt(lambda rule=rule: rule.judge(job))  # type: ignore[misc]
        if error is not None:
            crashed.append(Caveat(kind=rule.name, text=f"The rule {rule.name} crashed: {error}"))
        if outcome is None and error is None:
            passed[rule.name] = rule.code
        if isinstance(outcome, Skip):
            unjudged.append(Unjudged(rule=rule.name, code=rule.code, reason=outcome.reason))
        if not isinstance(outcome, JobFault):
            continue
        own = _own_cause(job, outcome)
        if own is not None:
            said.setdefault(own.rule, set()).update(outcome.late)
        found.append(_between(job, rule, outcome, own, where))
    return Candidates((*found, *_own(job, where, said)), tuple(crashed), passed, tuple(unjudged))


def _passed(job: Job) -> dict[str, str]:
    """The ranks' own rules that found nothing on any rank that they could judge."""
    reports = [one.report for one in job.summaries]
    failed = {said.rule for report in reports for said in report.with_status(FAILED)}
    looked = (said for report in reports for said in (*report.passed, *report.withheld))
    return {said.rule: said.code for said in looked if said.rule not in failed}


def _unjudged(job: Job) -> list[Unjudged]:
    """The ranks' own rules that could judge none of them, each with the reason of the first rank."""
    said = [one for summary in job.summaries for one in summary.report.diagnoses if not one.caution]
    judged = {one.rule for one in said if one.status not in (NOT_MEASURED, CRASHED)}
    first = {one.rule: one for one in reversed(said) if one.rule not in judged}
    return [Unjudged(rule=one.rule, code=one.code, reason=one.reason or one.status) for one in reversed(first.values())]


def _between(
    job: Job, rule: JobRule, fault: JobFault, own: Diagnosis | None, where: dict[str, dict[int, JobChange]]
) -> Candidate:
    """A fault between ranks, with the fix of the finding that names its cause.

    If that fix leaves some of the lateness, or it is not known what it does, all of the lateness is the most that is saved.
    """
    having = where.get(own.rule, {}) if own is not None else {}
    finding = JobFinding(
        rule=rule.name,
        code=rule.code,
        summary=fault.summary,
        fix=own.fix if own is not None else fault.fix,
        place=fault.place or (own.place if own is not None else None),
        ranks=tuple(job.ranks[place] for place in fault.late) if len(fault.late) < len(job) else (),
        effort=own.effort if own is not None else None,
        risk=own.risk if own is not None else None,
        confidence=fault.confidence,
        evidence=fault.evidence,
        reason=fault.reason,
    )
    everywhere = _mended(having) if set(having) - set(fault.late) else None
    if own is None or fault.change is None:
        return Candidate(finding, fault.change, everywhere, at_best=asks(finding.fix))
    fix = _mended({place: having[place] for place in fault.late if place in having})
    saved = job.replay.price(fix)
    short = job.replay.price(fault.change).mid - saved.mid >= WORTH_SHARE
    change = replace(fault.change, low=fix.low) if short and saved.low >= WORTH_SHARE else fault.change
    return Candidate(finding, change, everywhere, at_best=short or _is_bound(own))


def _own_cause(job: Job, fault: JobFault) -> Diagnosis | None:
    """The first finding of a late rank that is about the cause, and that the other ranks do not have as much."""
    if fault.cause is None or not fault.late:
        return None
    about = _ABOUT.get(fault.cause.partition(":")[0], _OTHERWISE)
    for place in fault.late:
        for own in job.summaries[place].report.failed:
            others = [
                _saving(other.report.diagnosis(own.rule))
                for i, other in enumerate(job.summaries)
                if i not in fault.late
            ]
            if family_of(own.code) in about and _saving(own) > _MORE * median(others or [0.0]):
                return own
    return None


def _is_bound(own: Diagnosis | None) -> bool:
    return own is not None and own.saving is not None and own.saving.at_best


def _saving(own: Diagnosis | None) -> float:
    return own.saving.mid if own is not None and own.saving is not None else 0.0


def _stands_out(savings: dict[int, float], most_on: int) -> bool:
    """Whether a rank is known to have clearly more of it than the others: 0 is a saving that is not known."""
    others = [saving for place, saving in savings.items() if place != most_on]
    return bool(others) and min(others) > 0 and savings[most_on] > _MORE * median(others)


def _own(job: Job, where: dict[str, dict[int, JobChange]], said: dict[str, set[int]]) -> Iterator[Candidate]:
    """The ranks' own findings; those that are named as the cause of a lateness, only if other ranks have them too."""
    for rule, having in where.items():
        if not set(having) - said.get(rule, set()):
            continue
        places = tuple(sorted(having))
        savings = {place: _saving(job.summaries[place].report.diagnosis(rule)) for place in places}
        most_on = max(savings, key=lambda place: savings[place])
        told = job.summaries[most_on].report.diagnosis(rule)
        if told is None:
            continue
        stands_out = _stands_out(savings, most_on)
        found = JobFinding(
            rule=rule,
            code=told.code,
            summary=told.summary,
            fix=told.fix,
            place=told.place,
            ranks=() if len(places) == len(job) else tuple(job.ranks[place] for place in places),
            most_on=job.ranks[most_on] if stands_out else None,
            told_of=None if stands_out or len(places) == 1 else job.ranks[most_on],
            effort=told.effort,
            risk=told.risk,
            trades=told.trades,
            decides=told.decides,
            confidence=told.confidence or "modelled",
            evidence=told.evidence,
        )
        yield Candidate(found, _mended(having), at_best=_is_bound(told))


def _where(job: Job) -> dict[str, dict[int, JobChange]]:
    """Each rule that found something: the ranks, and what its fix changes there."""
    where: dict[str, dict[int, JobChange]] = {}
    for place, summary in enumerate(job.summaries):
        for one in _roots(summary) if summary.reach is not None else ():
            ends = [JobEdit({place: reach}) for reach in (one.low, one.mid, one.high)]
            where.setdefault(one.rule, {})[place] = JobChange(*ends)
    return where


def _roots(summary: RankSummary) -> Iterator[Mended]:
    """What could be mended on a rank, without findings whose cause could be mended too."""
    rules = {one.rule for one in summary.mended}
    for one in summary.mended:
        found = summary.report.diagnosis(one.rule)
        if found is None or found.explained_by not in rules:
            yield one


def _mended(where: dict[int, JobChange]) -> JobChange:
    """The fix on all of these ranks."""
    ends = [
        JobEdit({place: reach for change in where.values() for place, reach in getattr(change, end).reach.items()})
        for end in ("low", "mid", "high")
    ]
    return JobChange(*ends)
