"""A job in the form of one run: its step, its split, its findings and its caveats as those of a `Report`.

So whatever takes a report (budgets, comparison, the panels of a screen) takes a job too, and nothing of it is written twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import fmean

from mfu_doctor.quantities import duration
from mfu_doctor.quantities.parts import part_alone
from mfu_doctor.result.findings import FAILED, NOT_MEASURED, PASSED, WITHHELD, Diagnosis
from mfu_doctor.result.job import JobFinding, JobReport
from mfu_doctor.result.report import Report
from mfu_doctor.result.run import DeviceInfo, Mfu, RunInfo

JOB_STEP, WAIT, SPREAD = "job_step_time", "wait_for_ranks", "rank_spread"
"""Names of what only a job has, in `Report.structure`."""

_LISTED = 4  # ranks that are named one by one
_HOST = "HO"  # letters of the rules' codes that are about waiting for the CPU
_MORE = 1.05  # times the saving on its own ranks: less is the same figure


def as_run(job: JobReport) -> Report:
    """The job as a report of one run."""
    steps = max((len(row.steps_s) for row in job.ranks), default=0)
    return Report(
        version=job.version,
        created=job.created,
        run=RunInfo(trace=job.source, world_size=job.world_size or len(job.ranks), steps=steps),
        device=_device(job),
        step_time_s=job.step_time_s,
        mfu=Mfu(value=job.mfu, reason=job.mfu_reason),
        breakdown=job.breakdown,
        verdict=job.verdict,
        caveats=job.caveats,
        diagnoses=(*(_diagnosis(found, job) for found in job.findings), *_passed(job), *_unjudged(job)),
        plan=job.plan,
        replay=job.replay,
        structure=_measures(job),
    )


def rank_words(ranks: tuple[int, ...]) -> str:
    """Ranks as people write them: "rank 7", "ranks 0-3 and 7", "16 ranks"; all of them: "all ranks"."""
    if not ranks:
        return "all ranks"
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    if len(runs) > _LISTED:
        return f"{len(ranks)} ranks"
    parts = [f"{first}" if first == last else f"{first}-{last}" for first, last in runs]
    text = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {text}"


def rank_spread(job: JobReport) -> float | None:
    """How much longer the slowest rank works than the ranks do on average, as a part of the step.

    What a rank works is its step without its waiting for others: the steps of ranks that wait for each other are equally long.
    """
    step = job.step_time_s
    work = [row.step_s - (row.wait_s or 0.0) for row in job.ranks if row.step_s is not None]
    if step is None or not step.stated or job.wait_s is None or not work:
        return None
    return (max(work) - fmean(work)) / step.stated


def _measures(job: JobReport) -> dict[str, float]:
    step = job.step_time_s
    found = {
        JOB_STEP: None if step is None else step.stated,
        WAIT: None if step is None or job.wait_s is None or not step.stated else job.wait_s / step.stated,
        SPREAD: rank_spread(job),
    }
    return {name: value for name, value in found.items() if value is not None}


def _device(job: JobReport) -> DeviceInfo:
    names = Counter(row.device for row in job.ranks)
    name = max(names, key=lambda name: names[name], default=None)
    kind = "cpu" if job.ranks and all(row.device_kind == "cpu" for row in job.ranks) else "gpu"
    count = job.world_size or len(job.ranks)
    return DeviceInfo(name=name, kind=kind, count=count, peak_measured=job.peak_measured)


def _passed(job: JobReport) -> Iterator[Diagnosis]:
    found = {finding.rule for finding in job.findings}
    for rule, code in job.passed.items():
        if rule not in found:
            yield Diagnosis(rule=rule, code=code, status=PASSED, summary="not found on any rank")


def _unjudged(job: JobReport) -> Iterator[Diagnosis]:
    for one in job.unjudged:
        yield Diagnosis(rule=one.rule, code=one.code, status=NOT_MEASURED, reason=one.reason)


def _diagnosis(found: JobFinding, job: JobReport) -> Diagnosis:
    """A finding of the job; one whose saving is not known says why instead."""
    where = rank_words(found.ranks) if found.ranks else "on all ranks"
    one = f", most on rank {found.most_on}" if found.most_on is not None else ""
    one = f", here rank {found.told_of}" if found.told_of is not None else one  # the figures of the summary are its own
    is_told = where.lower() in found.summary.lower() or not (found.ranks or one)
    return Diagnosis(
        rule=found.rule,
        code=found.code,
        status=WITHHELD if found.saving is None and found.reason else FAILED,
        summary=found.summary if is_told else f"{where[:1].upper()}{where[1:]}{one}: {found.summary}",
        reason=found.reason,
        fix=found.fix,
        detail="; ".join(_detail(found, job)) or None,
        effort=found.effort,
        risk=found.risk,
        trades=found.trades,
        decides=found.decides,
        confidence=found.confidence,
        saving=found.saving,
        evidence=found.evidence,
        place=found.place,
    )


def _detail(found: JobFinding, job: JobReport) -> Iterator[str]:
    """What it saves elsewhere, and why it can save more than the mean rank loses to it."""
    saving, more, split = found.saving, found.everywhere, job.breakdown
    if saving is None:
        return
    if more is not None and more.mid > _MORE * saving.mid:
        yield f"mended on all ranks it saves {part_alone(more.mid, saving.whole_s)}"
    if found.code.startswith(_HOST) and saving.high > _MORE * (split.idle + split.data_loading):
        yield f"{duration(saving.high, 2)} are more than the mean rank is idle: the ranks wait less for each other too"
