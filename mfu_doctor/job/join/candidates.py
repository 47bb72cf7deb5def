"""What could be mended in a job, before it is priced: the ranks' own findings, each on the ranks that have it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mfu_doctor.job.across.edits import JobChange, JobEdit
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.patterns import Pattern
from mfu_doctor.result.findings import Diagnosis
from mfu_doctor.result.job import SLOW_NODE, STRAGGLER, JobFinding


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finding without its price, and what it changes; None: it has no price, and the finding says why.

    Attributes:
        found: without a saving.
        change: on the ranks that it names.
        everywhere: on all ranks that have it; None: the same.
    """

    found: JobFinding
    change: JobChange | None
    everywhere: JobChange | None = None


def own_candidates(job: Job, patterns: tuple[Pattern, ...]) -> Iterator[Candidate]:
    """The findings of the ranks themselves, those that most ranks would gain from first.

    Where some ranks are late, a finding is about those of them that have it: the others can only wait less.
    """
    late = {place for one in patterns if one.kind in (STRAGGLER, SLOW_NODE) for place in one.late}
    for rule, where in sorted(_where(job).items(), key=lambda item: (-len(item[1]), item[0])):
        theirs = tuple(sorted(late & set(where))) or tuple(sorted(where))
        told = _told(job, rule, theirs)
        if told is None:
            continue
        everywhere = _mended(where) if len(theirs) < len(where) else None
        named = () if len(theirs) == len(job) else tuple(job.ranks[place] for place in theirs)
        found = JobFinding(
            rule=rule,
            code=told.code,
            summary=told.summary,
            fix=told.fix,
            place=told.place,
            ranks=named,
            confidence=told.confidence or "modelled",
            evidence=told.evidence,
        )
        yield Candidate(found, _mended({place: where[place] for place in theirs}), everywhere)


def _where(job: Job) -> dict[str, dict[int, JobChange]]:
    """Each rule that found something: the ranks, and what its fix changes there."""
    where: dict[str, dict[int, JobChange]] = {}
    for place, summary in enumerate(job.summaries):
        if summary.reach is None:
            continue
        for one in summary.mended:
            ends = [JobEdit({place: reach}) for reach in (one.low, one.mid, one.high)]
            where.setdefault(one.rule, {})[place] = JobChange(*ends)
    return where


def _mended(where: dict[int, JobChange]) -> JobChange:
    """The fix on all of these ranks."""
    ends = [
        JobEdit({place: getattr(change, end).reach[place] for place, change in where.items()})
        for end in ("low", "mid", "high")
    ]
    return JobChange(*ends)


def _told(job: Job, rule: str, places: tuple[int, ...]) -> Diagnosis | None:
    """What the rule says on the rank that it would save most on, of these."""
    said = [job.summaries[place].report.diagnosis(rule) for place in places]
    known = [one for one in said if one is not None]
    return max(known, key=lambda one: one.saving.mid if one.saving else 0.0, default=None)
