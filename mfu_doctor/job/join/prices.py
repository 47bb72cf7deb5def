"""Findings priced by the replay of all ranks, best first, and the plan: one fix after the other, replayed again."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.job.across.edits import JobChange, JobEdit, together
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.replay import Price
from mfu_doctor.job.join.candidates import Candidate
from mfu_doctor.result.findings import Overlap, Plan, PlanStep, Saving, asks, not_added, ranked_by
from mfu_doctor.result.job import JobFinding
from mfu_doctor.rules.contract import WORTH_SHARE


class Priced(Struct, frozen=True):
    """A finding with what it saves, and its change for the plan."""

    found: JobFinding
    change: JobChange | None


def priced(job: Job, candidates: Sequence[Candidate], mfu: float | None) -> list[Priced]:
    """The findings that save enough, or whose saving cannot be known; best first.

    A fix that saves too little on the ranks that it names can still save on all that have it: it is then about those.
    """
    out = []
    for one in candidates:
        if one.change is None or job.replay.distrust is not None:
            reason = one.found.reason or (None if one.change is None else job.replay.distrust)
            out.append(Priced(replace(one.found, reason=reason), None))
            continue
        here = job.replay.price(one.change)
        there = here if one.everywhere is None else job.replay.price(one.everywhere)
        if here.low >= WORTH_SHARE:
            everywhere = _saving(job, there, mfu, at_best=one.at_best) if one.everywhere is not None else None
            found = replace(one.found, saving=_saving(job, here, mfu, at_best=one.at_best), everywhere=everywhere)
            out.append(Priced(found, one.change))
        elif there.low >= WORTH_SHARE:
            saving = _saving(job, there, mfu, at_best=one.at_best)
            out.append(Priced(replace(one.found, ranks=(), saving=saving), one.everywhere))
    return sorted(out, key=lambda one: -_ranked_by(one.found))


def _ranked_by(found: JobFinding) -> float:
    return ranked_by(found.saving, trades=found.trades) if found.saving is not None else -1.0


def _saving(job: Job, price: Price, mfu: float | None, *, at_best: bool) -> Saving:
    low, mid, high = (share * job.step_s for share in (price.low, price.mid, price.high))
    ends = [job.step_s - low, job.step_s - high]
    rates = [mfu * job.step_s / end if mfu is not None and end > 0 else None for end in ends]
    return Saving(
        low=low,
        mid=mid,
        high=high,
        step_low_s=ends[0],
        step_high_s=ends[1],
        mfu_low=rates[0],
        mfu_high=rates[1],
        at_best=at_best,
    )


def plan_of(job: Job, ranked: Sequence[Priced], mfu: float | None) -> Plan:
    """The best fix first, then the best after it, and so on while one saves enough; a question is none."""
    waiting = [one for one in ranked if one.change is not None and not asks(one.found.fix)]
    notes = tuple(not_added(one.found.rule) for one in ranked if one.change is not None and asks(one.found.fix))
    chosen: list[JobChange] = []
    steps: list[PlanStep] = []
    now = 1.0
    while waiting:
        after, best = min(
            ((_left(job, [*chosen, one.change], "mid"), i) for i, one in enumerate(waiting) if one.change is not None)
        )
        if now - after < WORTH_SHARE:
            break
        picked = waiting.pop(best)
        assert picked.change is not None
        chosen.append(picked.change)
        step_s = after * job.step_s
        rate = mfu / after if mfu is not None and after > 0 else None
        steps.append(PlanStep(rule=picked.found.rule, step_s=step_s, saving_s=(now - after) * job.step_s, mfu=rate))
        now = after
    if not steps:
        return Plan(notes=notes)
    saved = sorted(max(1.0 - _left(job, chosen, end), 0.0) for end in ("low", "mid", "high"))
    low, high = saved[0] * (1 - job.replay.widening), min(saved[-1] * (1 + job.replay.widening), 1.0)
    return Plan(
        steps=tuple(steps),
        overlaps=tuple(_overlap(job, chosen, steps, one) for one in waiting),
        saving_low_s=low * job.step_s,
        saving_high_s=high * job.step_s,
        mfu_low=mfu / (1 - low) if mfu is not None and low < 1 else None,
        mfu_high=mfu / (1 - high) if mfu is not None and high < 1 else None,
        stop="after these fixes, no other fix is predicted to save 1 % of the job's step",
        notes=notes,
    )


def _overlap(job: Job, chosen: Sequence[JobChange], steps: Sequence[PlanStep], left: Priced) -> Overlap:
    """Which fix of the plan saves what this one would."""
    covering = (
        step.rule
        for change, step in zip(chosen, steps, strict=True)
        if _left(job, [change], "mid") - _left(job, [change, left.change], "mid") < WORTH_SHARE
    )
    return Overlap(rule=left.found.rule, covered_by=next(covering, None))


def _left(job: Job, changes: Sequence[JobChange | None], end: str) -> float:
    edits: list[JobEdit] = [getattr(change, end) for change in changes if change is not None]
    return job.replay.left(together(edits))
