"""From the summaries of the ranks to the `JobReport`. Every report on a job is made here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import fmean

import numpy as np
from msgspec.structs import replace

from mfu_doctor.errors import DoctorError
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.patterns import Pattern, patterns_of
from mfu_doctor.job.across.what_if import at_link_rate, like_the_others, no_skew, stages_alike
from mfu_doctor.job.across.words import main_cause, ranks_named, sentence_of
from mfu_doctor.job.join.candidates import candidates_of
from mfu_doctor.job.join.cautions import caveats_of, missing_ranks
from mfu_doctor.job.join.collective_rows import collective_rows
from mfu_doctor.job.join.picture import arrivals, drawn_step, strips
from mfu_doctor.job.join.prices import plan_of, priced
from mfu_doctor.job.join.rank_rows import group_rows, mean_breakdown, rank_rows, step_time, typical_rank
from mfu_doctor.job.join.verdict import verdict_of
from mfu_doctor.job.summary import RankSummary
from mfu_doctor.quantities import counted
from mfu_doctor.result.job import (
    NO_SKEW,
    SLOW_NODE,
    STRAGGLER,
    Blame,
    Clock,
    JobFinding,
    JobReport,
    Matching,
    RankLeftOut,
    WhatIf,
)
from mfu_doctor.result.run import ReplayInfo
from mfu_doctor.rules.catalogue import JOB_RULES
from mfu_doctor.rules.job_contract import JobRule
from mfu_doctor.units import NS_PER_S
from mfu_doctor.version import __version__


def join(
    summaries: Sequence[RankSummary],
    *,
    source: str,
    left_out: Sequence[RankLeftOut] = (),
    rules: Sequence[JobRule] = JOB_RULES,
) -> JobReport:
    """Diagnose all ranks of a run together.

    Args:
        summaries: of one run, one of each rank.
        source: where they are from, to show.
        left_out: files and ranks that are no part of it.
        rules: about ranks, to ask; the ranks' own rules were asked before.

    Raises:
        DoctorError: there is no rank.
    """
    numbered = sorted((one for one in summaries if one.rank is not None), key=lambda one: one.rank or 0)
    if not numbered:
        raise DoctorError("no rank could be read", "pass the traces of the ranks of one run")
    job = Job(tuple(numbered), source)
    ranks = _about_ranks(job)
    patterns, candidates = patterns_of(job), candidates_of(job, rules)
    ranked = priced(job, candidates.found, ranks.mfu)
    findings = tuple(one.found for one in ranked)
    drawn = drawn_step(job)
    return replace(
        ranks,
        source=source,
        left_out=tuple(left_out),
        groups=group_rows(job),
        collectives=collective_rows(job),
        matching=_matching(job),
        clock=_clock(job),
        blames=tuple(_blame(job, pattern, findings) for pattern in patterns),
        findings=findings,
        passed=candidates.passed,
        unjudged=candidates.unjudged,
        what_ifs=_what_ifs(job, patterns),
        plan=plan_of(job, ranked, ranks.mfu),
        replay=_replay_info(job),
        verdict=verdict_of(job, patterns, findings, ranks),
        caveats=(*caveats_of(job, left_out), *candidates.crashed),
        arrivals=arrivals(job, drawn) if drawn is not None else (),
        strips=strips(job, drawn) if drawn is not None else (),
    )


def _about_ranks(job: Job) -> JobReport:
    """The report with all that is of the ranks themselves."""
    mfu = [one.report.mfu.value for one in job.summaries if one.report.mfu.value is not None]
    is_known = len(mfu) == len(job)
    rows, is_matched = rank_rows(job), len(job.matched) > 0
    return JobReport(
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        world_size=job.world_size,
        ranks=rows,
        missing=missing_ranks(job),
        step_time_s=step_time(job),
        mfu=fmean(mfu) if is_known else None,
        mfu_low=min(mfu) if is_known else None,
        mfu_high=max(mfu) if is_known else None,
        mfu_reason=None if is_known else _why_no_mfu(job),
        peak_measured=any(one.report.device.peak_measured for one in job.summaries),
        typical=typical_rank(job),
        breakdown=mean_breakdown(job),
        wait_s=fmean([row.wait_s or 0.0 for row in rows]) if is_matched else None,
        exposed_wait_s=_exposed_wait_s(job) if is_matched else None,
    )


def _why_no_mfu(job: Job) -> str | None:
    without = [rank for rank, one in zip(job.ranks, job.summaries, strict=True) if one.report.mfu.value is None]
    why = next((one.report.mfu.reason for one in job.summaries if one.report.mfu.value is None), None)
    who = "" if len(without) == len(job) else f"{ranks_named(without)}: "
    return f"{who}{why}" if why is not None else None


def _exposed_wait_s(job: Job) -> float:
    judged = np.append(job.steady, False)[job.step]
    rows = job.matched.row[judged[job.matched.of_row]]
    return float(job.waits.exposed[rows].sum()) / max(int(job.steady.sum()), 1) / len(job) / job.second_ns


def _matching(job: Job) -> Matching:
    unmatched = job.matched.unmatched
    note = "; ".join(f"{count}: {reason}" for reason, count in sorted(unmatched.items(), key=lambda item: -item[1]))
    return Matching(
        matched=len(job.matched),
        unmatched=sum(unmatched.values()),
        method=", ".join(sorted(job.matched.methods)),
        note=note or None,
    )


def _clock(job: Job) -> Clock:
    clocks = job.clocks
    if clocks.resolution_ns is None:
        one = "the ranks share the clock of their machine"
        return Clock(method=one if clocks.tied.all() else "no collective of all of a group tells how the clocks differ")
    told = [f"ends of {counted(clocks.ends, 'collective')}"] if clocks.ends else []
    told += [f"messages both ways of {counted(clocks.rooms, 'pair')} of ranks"] if clocks.rooms else []
    drifts = " with a drift" if clocks.drift.any() else ""
    return Clock(
        resolution_s=clocks.resolution_ns / NS_PER_S,
        offsets_s={rank: float(ns) / NS_PER_S for rank, ns in zip(job.ranks, clocks.offset_ns, strict=True)},
        method=f"{' and '.join(told)}{drifts}",
    )


def _blame(job: Job, pattern: Pattern, findings: Sequence[JobFinding]) -> Blame:
    ranks = tuple(job.ranks[place] for place in pattern.late)
    causes = {owner: ns / job.second_ns for owner, ns in sorted(pattern.more_ns.items(), key=lambda item: -item[1])}
    return Blame(
        kind=pattern.kind,
        ranks=ranks,
        wait_s=pattern.wait_ns / job.second_ns,
        share=pattern.share,
        causes=causes,
        cause=main_cause(pattern.more_ns),
        steps=pattern.steps,
        place=next((one.place for one in findings if ranks and one.ranks == ranks and one.place is not None), None),
        sentence=sentence_of(job, pattern),
    )


def _what_ifs(job: Job, patterns: tuple[Pattern, ...]) -> tuple[WhatIf, ...]:
    if job.replay.distrust is not None or not job.step_s or not len(job.matched):
        return ()
    asked = [
        (f"{ranks_named([job.ranks[place] for place in one.late])} like the others", like_the_others(job, one.late).mid)
        for one in patterns
        if one.kind in (STRAGGLER, SLOW_NODE)
    ]
    asked.append((NO_SKEW, no_skew(job)))
    if job.slots.stages > 1:
        asked.append(("every stage like the mean", stages_alike(job)))
    link = at_link_rate(job)
    if link is not None:
        asked.append(("collectives at the link's rate", link))
    left = [(name, job.replay.left(edit) * job.step_s) for name, edit in asked]
    return tuple(WhatIf(name=name, step_s=step_s, saving_s=job.step_s - step_s) for name, step_s in left)


def _replay_info(job: Job) -> ReplayInfo:
    replay = job.replay
    reason = f"no savings are predicted: {replay.distrust}" if replay.distrust is not None else None
    if reason is None and replay.widening:
        reason = f"the unchanged replay of the job is off by {abs(replay.error):.1%}: ranges are wider by this"
    return ReplayInfo(
        error=replay.error,
        predicted_s=float(replay.base_ns.mean()) / NS_PER_S,
        measured_s=float(replay.measured_ns.mean()) / NS_PER_S,
        trusted=replay.distrust is None,
        reason=reason,
    )
