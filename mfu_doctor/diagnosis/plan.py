"""The plan: the order of the fixes, and what they save together.

Savings are never summed, because the bottleneck moves: the plan applies one fix after another and replays each time. A fix that
saves little alone can save much after another one (faster kernels in a run that waited for its host). So a fix whose saving alone
is too small is also tried, and the plan says after which fix it saves time.
"""

from __future__ import annotations

from dataclasses import dataclass

from mfu_doctor.analysis.replay.edits import Edit
from mfu_doctor.analysis.replay.replay import Replay
from mfu_doctor.diagnosis.pricing import Priced, Scale, causes, change_of, why_lower
from mfu_doctor.diagnosis.rule_runner import attempt
from mfu_doctor.quantities import duration, number
from mfu_doctor.result.findings import Plan, PlanStep
from mfu_doctor.rules.contract import WORTH_SHARE


@dataclass(frozen=True, slots=True)
class _Next:
    """The fix that saves most after the chosen ones, and the step it leaves in trace nanoseconds."""

    picked: Priced
    after_ns: float


def make_plan(replay: Replay, ranked: list[Priced], scale: Scale) -> Plan:
    """Apply the best fix, replay all the others again, and so on; stop when none of them saves enough (`Scale.least_s`).

    The next fix is the one with the best estimate, as in the ranking, of those whose low estimate is worth it. No predicted step
    is below the floor of `scale`. A change that cannot be replayed after the others is left out, and the plan says so.
    """
    folded = causes(ranked)
    waiting = [p for p in ranked if p.price is not None and p.finding.withhold is None and p.rule.name not in folded]
    chosen: list[Priced] = []
    steps: list[PlanStep] = []
    notes: list[str] = []
    now_ns, step_s = replay.measured_ns, scale.step_s
    while waiting:
        found = _best(replay, chosen, waiting, now_ns)
        notes += [f"{name} could not be simulated with the other fixes: {error}" for name, error in found[1]]
        best, broken = found[0], {name for name, _ in found[1]}
        if best is None:
            break
        then = _after(scale, [*chosen, best.picked])
        after_s = then.step_s - then.possible_s(replay.measured_ns - best.after_ns)
        if step_s - after_s < scale.least_s:
            break  # what is left above the floor, or can be told from chance, is not worth another fix
        name, pays_after = best.picked.rule.name, _enabler(replay, chosen, best.picked)
        steps.append(
            PlanStep(
                rule=name, step_s=after_s, saving_s=step_s - after_s, mfu=then.mfu_at(after_s), pays_after=pays_after
            )
        )
        chosen.append(best.picked)
        waiting = [p for p in waiting if p is not best.picked and p.rule.name not in broken]
        now_ns, step_s = best.after_ns, after_s
    return _whole(replay, chosen, tuple(steps), scale, tuple(notes))


def _best(
    replay: Replay, chosen: list[Priced], waiting: list[Priced], now_ns: float
) -> tuple[_Next | None, list[tuple[str, str]]]:
    """The waiting fix with the best estimate after the chosen ones, and those whose change cannot be replayed after them."""
    before = _edits(chosen, "mid")
    broken: list[tuple[str, str]] = []
    tried: list[tuple[float, int]] = []
    for index, p in enumerate(waiting):
        mid_ns, error = _replayed(replay, (*before, *change_of(p).mid))
        if mid_ns is None:
            broken.append((p.rule.name, error))
        else:
            tried.append((mid_ns, index))
    worth_ns = WORTH_SHARE * replay.measured_ns
    for mid_ns, index in sorted(tried):
        p = waiting[index]
        low_ns, error = _replayed(replay, (*before, *change_of(p).low))
        if low_ns is None:
            broken.append((p.rule.name, error))
        elif now_ns - low_ns >= worth_ns:
            return _Next(p, min(mid_ns, low_ns)), broken
    return None, broken


def _replayed(replay: Replay, edits: tuple[Edit, ...]) -> tuple[float | None, str]:
    step_ns, error = attempt(lambda: replay.step_ns(edits))
    return step_ns, error or ""


def _after(scale: Scale, chosen: list[Priced]) -> Scale:
    for p in chosen:
        scale = scale.after(p.finding)
    return scale


def _edits(chosen: list[Priced], end: str) -> tuple[Edit, ...]:
    """All edits of one end of the chosen fixes, in order."""
    return tuple(edit for p in chosen for edit in getattr(change_of(p), end))


def _enabler(replay: Replay, chosen: list[Priced], picked: Priced) -> str | None:
    """The fix after which this one saves enough; None if it saves enough alone."""
    if picked.worth or not chosen:
        return None
    for p in chosen:
        alone, _ = _replayed(replay, _edits([p], "mid"))
        both, _ = _replayed(replay, (*_edits([p], "mid"), *change_of(picked).low))
        if alone is not None and both is not None and alone - both >= WORTH_SHARE * replay.measured_ns:
            return p.rule.name
    return chosen[-1].rule.name


def _whole(
    replay: Replay, chosen: list[Priced], steps: tuple[PlanStep, ...], scale: Scale, notes: tuple[str, ...]
) -> Plan:
    """The plan with the low and high estimate of its saving, widened by the replay error and limited by the floor of the step."""
    roofline_s = scale.roofline_s if scale.roofline_s is not None and 0 < scale.roofline_s < scale.step_s else None
    if not steps:
        return Plan(roofline_s=roofline_s, notes=notes)
    ends = [_replayed(replay, _edits(chosen, end))[0] for end in ("low", "high")]
    saved = [replay.measured_ns - ns for ns in ends if ns is not None]
    middle = scale.step_s - steps[-1].step_s
    then = _after(scale, chosen)
    at_floor = then.floor_s > 0 and steps[-1].step_s <= then.floor_s * (1 + WORTH_SHARE)
    low = min([middle, *(then.possible_s(ns * (1 - replay.widening)) for ns in saved)])
    high = max([middle, *(then.possible_s(ns * (1 + replay.widening)) for ns in saved)])
    mfu_low = then.mfu_at(scale.step_s - low)
    return Plan(
        steps=steps,
        saving_low_s=low,
        saving_high_s=high,
        mfu_low=mfu_low,
        mfu_high=then.mfu_at(scale.step_s - high),
        roofline_s=roofline_s,
        stop=_stop(then, roofline_s, step_s=min(steps[-1].step_s, scale.step_s - high), at_floor=at_floor),
        at_floor=at_floor,
        lower_mfu=why_lower(mfu_low, scale, then),
        notes=notes,
    )


def _stop(scale: Scale, roofline_s: float | None, *, step_s: float, at_floor: bool) -> str:
    """Where the plan stops and why, and why it can be below what is stated as a lower bound.

    Args:
        scale: after all fixes.
        roofline_s: the bound.
        step_s: the shortest step that the plan states.
        at_floor: whether nothing shorter is ever predicted.
    """
    replaced = roofline_s is not None and step_s < roofline_s
    why = f"; it is below the lower bound of {duration(roofline_s or 0.0)}, because a fix replaces or removes kernels"
    if at_floor:
        floor = "all matmuls at peak FLOP/s" if scale.floor_s == scale.products_s else "MFU 100 %"
        return f"no step shorter than {duration(scale.floor_s)} is predicted: this is {floor}{why if replaced else ''}"
    if roofline_s is None or replaced:
        return f"after these fixes, no other fix saves 1 % of the step{why if replaced else ''}"
    return f"after these fixes, the step is {number(step_s / roofline_s)}x the lower bound of {duration(roofline_s)}"
