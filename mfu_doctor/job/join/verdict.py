"""The verdict on a job: who waits for whom and why, or what limits each rank, and what can be saved.

If the first fix is about the waiting, the sentence is the waiting and what of it can be saved. If it is about what the ranks do
for themselves, what limits them comes first, then the fix, and who waits for whom last: one is not taken for the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from mfu_doctor.diagnosis.verdict import about, limits_of
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.patterns import Pattern
from mfu_doctor.job.across.words import ranks_named, sentence_of
from mfu_doctor.quantities import counted
from mfu_doctor.quantities.parts import part_of
from mfu_doctor.result.bottleneck import bound_by, owners_of
from mfu_doctor.result.findings import AT_STAKE, asks, first_words, result_words
from mfu_doctor.result.job import NOTHING, JobFinding, JobReport
from mfu_doctor.result.run import Mfu
from mfu_doctor.result.run_verdict import Limit, Loss, RunVerdict

_BOTH = 2


def verdict_of(job: Job, patterns: tuple[Pattern, ...], findings: Sequence[JobFinding], mean: JobReport) -> RunVerdict:
    """The verdict on a job.

    Args:
        job: the job.
        patterns: kinds of waiting, most first.
        findings: best first.
        mean: of the report, what is of the ranks: their mean split and MFU, and the rank that can stand for the others.
    """
    first, split = next(iter(findings), None), mean.breakdown
    owner = next(iter(owners_of(split)), None)
    limit = None
    if owner is not None and split.step_s:
        limit = Limit(
            owner=owner.owner, seconds=owner.seconds, share=owner.seconds / split.step_s, bound=bound_by(split)
        )
    loss = None
    if first is not None:
        saving_s = first.saving.mid if first.saving is not None else None
        loss = Loss(rule=first.rule, place=first.place, saving_s=saving_s, sure=first.sure)
    return RunVerdict(sentence=_sentence(job, patterns[0], findings, mean), limit=limit, loss=loss)


def _sentence(job: Job, most: Pattern, findings: Sequence[JobFinding], mean: JobReport) -> str:
    waits = sentence_of(job, most)
    if not findings:
        return " ".join(part for part in (waits, _of_mean(job, mean), _nothing(job)) if part)
    first, late = findings[0], tuple(job.ranks[place] for place in most.late)
    if first.is_about_ranks or (late and first.ranks == late and not first.trades):
        return f"{waits} {_saved(job, first)}".rstrip()
    within = waits if most.kind == NOTHING else f"Within communication, {waits[:1].lower()}{waits[1:]}"
    return f"{_of_mean(job, mean)} {_fix(job, findings)} {within}".lstrip()


def _saved(job: Job, first: JobFinding) -> str:
    """What of the waiting that was told can be saved, or is at stake; empty if that is not known."""
    saved = _part(job, first)
    if not saved:
        return ""
    begin = f"{saved[:1].upper()}{saved[1:]}"
    if asks(first.fix):
        return f"{begin} {AT_STAKE} ({_where(job, first)}; {first.sure})."
    return f"{begin} can be saved ({_where(job, first)}; {_known(job, first)})."


def _fix(job: Job, findings: Sequence[JobFinding]) -> str:
    """The first fix: what it is about, where, and what it saves; of a question what is at stake."""
    first = findings[0]
    saved = _part(job, first)
    if not saved:
        told = "what it saves could not be predicted"
    elif asks(first.fix):
        told = f"{saved} {AT_STAKE} ({first.sure})"
    else:
        told = f"saves {saved} ({_known(job, first)})"
    of_any = job.summaries[0].report
    return f"{first_words(first, findings)}: {about(of_any, first)} ({_where(job, first)}); {told}."


def _part(job: Job, first: JobFinding) -> str:
    return f"{first.saving.about} {part_of(first.saving.mid, job.step_s)}".lstrip() if first.saving is not None else ""


def _known(job: Job, first: JobFinding) -> str:
    return result_words(first.saving, job.step_s, first.sure)


def _where(job: Job, first: JobFinding) -> str:
    """The rule, the ranks, and the file and line if they are known."""
    everyone = "both ranks" if len(job) == _BOTH else f"all {counted(len(job), 'rank')}"
    ranks = ranks_named(first.ranks) if first.ranks else everyone
    return ", ".join(part for part in (first.rule, ranks, (first.place or "").rpartition("/")[2]) if part)


def _of_mean(job: Job, mean: JobReport) -> str:
    """What the ranks do with their step, on average; empty if that is not known."""
    report = replace(job.summaries[0].report, breakdown=mean.breakdown, mfu=Mfu(value=mean.mfu), later_wait=None)
    told = limits_of(report)
    return f"{told}, mean of {counted(len(job), 'rank')}." if told else ""


def _nothing(job: Job) -> str:
    """That no fix is worth it, or why nobody can say so."""
    unknown = job.replay.distrust
    if unknown is None and all(one.reach is None for one in job.summaries):
        unknown = job.summaries[0].reach_reason
    return f"No saving can be predicted: {unknown}." if unknown else "No known fix saves 1 % of the step."
