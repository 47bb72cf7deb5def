"""The verdict on a job: who waits for whom and why, or what limits each rank, and what can be had back."""

from __future__ import annotations

from collections.abc import Sequence

from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.patterns import Pattern
from mfu_doctor.job.across.words import ranks_named, sentence_of
from mfu_doctor.quantities import part_of
from mfu_doctor.result.bottleneck import bound_by, owners_of
from mfu_doctor.result.findings import GUESSED, how_known
from mfu_doctor.result.job import NOTHING, JobFinding
from mfu_doctor.result.run_verdict import Limit, Loss, RunVerdict
from mfu_doctor.result.step import Breakdown
from mfu_doctor.rules.catalogue import find

_ABOUT_RANKS = "RA"  # codes of the rules about who waits for whom


def verdict_of(
    job: Job, patterns: tuple[Pattern, ...], findings: Sequence[JobFinding], split: Breakdown, typical: int | None
) -> RunVerdict:
    """The verdict on a job.

    Args:
        job: the job.
        patterns: kinds of waiting, most first.
        findings: best first.
        split: the mean over ranks.
        typical: the rank that can stand for the others.
    """
    first = next(iter(findings), None)
    saved = first.saving if first is not None else None
    sentence = sentence_of(job, patterns[0])
    if patterns[0].kind == NOTHING and first is None:
        sentence += _of_typical(job, typical)
    elif first is not None and saved is not None:
        sentence += _had_back(first, f"{saved.about} {part_of(saved.mid, job.step_s)}".lstrip())
    owner = next(iter(owners_of(split)), None)
    limit = None
    if owner is not None and split.step_s:
        limit = Limit(
            owner=owner.owner, seconds=owner.seconds, share=owner.seconds / split.step_s, bound=bound_by(split)
        )
    loss = None
    if first is not None:
        sure = how_known(first.confidence, saved)
        loss = Loss(rule=first.rule, place=first.place, saving_s=saved.mid if saved is not None else None, sure=sure)
    return RunVerdict(sentence=sentence, limit=limit, loss=loss)


def _had_back(first: JobFinding, saves: str) -> str:
    """The first fix: what it is about, where, and what it saves. Of waiting for ranks the sentence before it has told."""
    where = [first.rule, ranks_named(first.ranks)] if first.ranks else [first.rule]
    named = ", ".join([*where, *([first.place.rpartition("/")[2]] if first.place else [])])
    is_guess = how_known(first.confidence, first.saving) == GUESSED
    if first.code.startswith(_ABOUT_RANKS):
        return f" {saves[:1].upper()}{saves[1:]} {'may' if is_guess else 'can'} be had back ({named})."
    return f" {'Try' if is_guess else 'Fix'} first: {find(first.rule).title} ({named}), {saves}."


def _of_typical(job: Job, typical: int | None) -> str:
    """What the rank says that can stand for the others."""
    if typical is None:
        return ""
    verdict = job.summaries[job.ranks.index(typical)].report.verdict
    return f" Rank {typical}, which is typical: {verdict.sentence}" if verdict is not None else ""
