"""The plan: what the fixes save together, in the order of the list.

Savings are never summed, because the bottleneck moves: the plan applies one fix after another and replays each time. A listed fix
may then save nothing more; the plan says which other fix has its time. A fix that saves little alone can save much after another
one (faster kernels in a run that waited for its host). So a fix whose saving alone is too small is also tried, and the plan says
after which fix it saves time.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.replay.edits import Edit
from mfu_doctor.analysis.replay.replay import Replay
from mfu_doctor.diagnosis.pricing import Priced, Scale, causes, change_of, mfu_then_of, named_ns
from mfu_doctor.diagnosis.rule_runner import attempt
from mfu_doctor.quantities import duration, number
from mfu_doctor.result.findings import Overlap, Plan, PlanStep, asks, not_added
from mfu_doctor.rules.contract import WORTH_SHARE


class _Now(Struct, frozen=True):
    """The step after the chosen fixes: in trace nanoseconds, and as the plan states it.

    `kept_ns` is what replay took off and no fix may (`Finding.at_most`): it is still part of the step.
    """

    chosen: tuple[Priced, ...]
    step_ns: float
    step_s: float
    kept_ns: float = 0.0


def make_plan(replay: Replay, ranked: list[Priced], scale: Scale) -> Plan:
    """Apply the listed fixes in their order, then those that save enough only after them; replay each time.

    A fix is applied if its low estimate is worth it (`WORTH_SHARE`), and its best one can be told from chance (`Scale.least_s`).
    No predicted step is below the floor of `scale`. A listed fix that is not applied is an `Overlap`; a change that cannot be
    replayed after the others is left out, and so is a question, which changes nothing; the plan says so.
    """
    folded = causes(ranked)
    priced = [p for p in ranked if p.price is not None and p.finding.withhold is None and p.rule.name not in folded]
    waiting = [p for p in priced if not asks(p.finding.fix)]
    broken: dict[str, str] = {}
    steps: list[PlanStep] = []
    now = _Now((), replay.measured_ns, scale.step_s)
    while (then := _next(replay, scale, now, waiting, broken)) is not None:
        picked = then.chosen[-1]
        saving_s, mfu = now.step_s - then.step_s, _after(scale, then.chosen).mfu_at(then.step_s)
        pays_after = _enabler(replay, now.chosen, picked)
        steps.append(
            PlanStep(rule=picked.rule.name, step_s=then.step_s, saving_s=saving_s, mfu=mfu, pays_after=pays_after)
        )
        waiting = [p for p in waiting if p is not picked and p.rule.name not in broken]
        now = then
    asked = [not_added(p.rule.name) for p in priced if p.worth and asks(p.finding.fix)]
    failed = [f"{name} could not be simulated with the other fixes: {error}" for name, error in broken.items()]
    left = [p for p in waiting if p.worth and p.rule.name not in broken] if steps else []
    overlaps = tuple(_overlap(replay, now.chosen, p) for p in left)
    return _whole(replay, now, Plan(steps=tuple(steps), overlaps=overlaps, notes=(*asked, *failed)), scale)


def _next(replay: Replay, scale: Scale, now: _Now, waiting: list[Priced], broken: dict[str, str]) -> _Now | None:
    """After the next fix: the first listed one that is worth it, else the best of the others; None if none is.

    Args:
        replay: the run.
        scale: of the unchanged run.
        now: after the fixes chosen so far.
        waiting: the fixes that are not chosen, in rank order.
        broken: gets the rules whose change cannot be replayed now, each with the error.
    """
    listed = (p for p in waiting if p.worth)
    first = next((then for p in listed if (then := _with(replay, scale, now, p, broken)) is not None), None)
    if first is not None:
        return first
    others = [_with(replay, scale, now, p, broken) for p in waiting if not p.worth]
    return min((then for then in others if then is not None), key=lambda then: then.step_s, default=None)


def _with(replay: Replay, scale: Scale, now: _Now, p: Priced, broken: dict[str, str]) -> _Now | None:
    """After this fix too; None if it saves too little now, or cannot be replayed."""
    before = _edits(now.chosen, "mid")
    mid_ns, mid_error = _replayed(replay, (*before, *change_of(p).mid))
    low_ns, low_error = _replayed(replay, (*before, *change_of(p).low))
    if mid_ns is None or low_ns is None:
        broken[p.rule.name] = mid_error or low_error
        return None
    chosen, after_ns = (*now.chosen, p), min(mid_ns, low_ns) + now.kept_ns
    more_kept_ns = max(now.step_ns - named_ns(replay, p.finding) - after_ns, 0.0)
    after_ns += more_kept_ns
    then = _after(scale, chosen)
    after_s = then.step_s - then.possible_s(replay.measured_ns - after_ns)
    pays = now.step_ns - low_ns - now.kept_ns >= WORTH_SHARE * replay.measured_ns
    enough = pays and now.step_s - after_s >= scale.least_s
    return _Now(chosen, after_ns, after_s, now.kept_ns + more_kept_ns) if enough else None


def _overlap(replay: Replay, chosen: Sequence[Priced], left: Priced) -> Overlap:
    """Which fix of the plan saves what this one would."""
    covering = next((p for p in chosen if not _pays_after(replay, p, left)), None)
    return Overlap(rule=left.rule.name, covered_by=covering.rule.name if covering else None)


def _pays_after(replay: Replay, first: Priced, second: Priced) -> bool:
    """Whether the second fix saves enough if the first one is applied."""
    alone, _ = _replayed(replay, _edits([first], "mid"))
    both, _ = _replayed(replay, (*_edits([first], "mid"), *change_of(second).low))
    return alone is not None and both is not None and alone - both >= WORTH_SHARE * replay.measured_ns


def _replayed(replay: Replay, edits: tuple[Edit, ...]) -> tuple[float | None, str]:
    step_ns, error = attempt(lambda: replay.step_ns(edits))
    return step_ns, error or ""


def _after(scale: Scale, chosen: Sequence[Priced]) -> Scale:
    for p in chosen:
        scale = scale.after(p.finding)
    return scale


def _edits(chosen: Sequence[Priced], end: str) -> tuple[Edit, ...]:
    """All edits of one end of the chosen fixes, in order."""
    return tuple(edit for p in chosen for edit in getattr(change_of(p), end))


def _enabler(replay: Replay, chosen: Sequence[Priced], picked: Priced) -> str | None:
    """The fix after which this one saves enough; None if it saves enough alone."""
    if picked.worth or not chosen:
        return None
    return next((p.rule.name for p in chosen if _pays_after(replay, p, picked)), chosen[-1].rule.name)


def _whole(replay: Replay, now: _Now, plan: Plan, scale: Scale) -> Plan:
    """The plan with the low and high estimate of its saving, widened by the replay error and limited by the floor of the step."""
    steps = plan.steps
    roofline_s = scale.roofline_s if scale.roofline_s is not None and 0 < scale.roofline_s < scale.step_s else None
    if not steps:
        return replace(plan, roofline_s=roofline_s)
    ends = [_replayed(replay, _edits(now.chosen, end))[0] for end in ("low", "high")]
    saved = [replay.measured_ns - ns - now.kept_ns for ns in ends if ns is not None]
    middle = scale.step_s - steps[-1].step_s
    then = _after(scale, now.chosen)
    at_floor = then.floor_s > 0 and steps[-1].step_s <= then.floor_s * (1 + WORTH_SHARE)
    low = min([middle, *(then.possible_s(ns * (1 - replay.widening)) for ns in saved)])
    high = max([middle, *(then.possible_s(ns * (1 + replay.widening)) for ns in saved)])
    return replace(
        plan,
        saving_low_s=low,
        saving_high_s=high,
        mfu_low=then.mfu_at(scale.step_s - low),
        mfu_high=then.mfu_at(scale.step_s - high),
        roofline_s=roofline_s,
        stop=_stop(
            then, roofline_s, steps=(steps[-1].step_s, min(steps[-1].step_s, scale.step_s - high)), at_floor=at_floor
        ),
        at_floor=at_floor,
        lower_mfu=mfu_then_of(scale, then),
    )


def _stop(scale: Scale, roofline_s: float | None, *, steps: tuple[float, float], at_floor: bool) -> str:
    """Where the plan stops and why, and why it can be below what is stated as a lower bound.

    Args:
        scale: after all fixes.
        roofline_s: the bound.
        steps: the step that the plan states, and the shortest one of its range.
        at_floor: whether nothing shorter is ever predicted.
    """
    step_s, best_s = steps
    bound = duration(roofline_s or 0.0)
    if at_floor:
        floor = "all matmuls at peak FLOP/s" if scale.floor_s == scale.products_s else "MFU 100 %"
        told = f"no step shorter than {duration(scale.floor_s)} is predicted: this is {floor}"
    elif roofline_s is not None and step_s >= roofline_s:
        told, bound = f"after these fixes, the step is {number(step_s / roofline_s)}x the lower bound of {bound}", ""
    else:
        told = "after these fixes, no other fix is predicted to save 1 % of the step"
    if roofline_s is None or best_s >= roofline_s:
        return told
    it_is = "it is" if step_s < roofline_s else "at best it is"
    below = f"below the lower bound of {bound}" if bound else "below that"
    return f"{told}; {it_is} {below}, because a fix replaces or removes kernels"
