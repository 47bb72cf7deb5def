"""Price findings by replay, rank them, fold symptoms under their cause, and make a plan.

Savings are never summed: the plan applies one fix after another and replays each time, because the bottleneck moves.
"""

from __future__ import annotations

from dataclasses import dataclass

from mfu_doctor.analysis.edits import Change, Edit
from mfu_doctor.analysis.replay import Price, Replay
from mfu_doctor.report import Plan, PlanStep, Saving
from mfu_doctor.rules.contract import Finding, Rule

# A fix is worth reporting when it saves at least this share of the step at its low end.
WORTH_SHARE = 0.01
EFFORT = ("setting", "line", "refactor")
RISK = ("none", "rounding", "convergence")


@dataclass(frozen=True, slots=True)
class Scale:
    """From the replayed run's nanoseconds to the report's seconds and MFU.

    Attributes:
        step_s: the step that the report states (un-profiled where it was timed).
        trace_ns: the same step in the trace (profiled).
        mfu: MFU of the stated step, or None.
    """

    step_s: float
    trace_ns: float
    mfu: float | None

    def saved_s(self, nanoseconds: float) -> float:
        """Seconds of the stated step that correspond to nanoseconds saved in the trace."""
        return nanoseconds / self.trace_ns * self.step_s

    def mfu_at(self, step_s: float) -> float | None:
        """MFU if the same work took `step_s`."""
        return None if self.mfu is None or step_s <= 0 else self.mfu * self.step_s / step_s


@dataclass(frozen=True, slots=True)
class Priced:
    """A finding with its price; `worth` is False for advice that replay shows to save too little."""

    rule: Rule
    finding: Finding
    price: Price | None
    saving: Saving | None
    worth: bool


def price_findings(replay: Replay, found: list[tuple[Rule, Finding]], scale: Scale) -> list[Priced]:
    """Price each finding alone; without a trustworthy replay findings stay, unpriced."""
    return [_price(replay, rule, finding, scale) for rule, finding in found]


def _price(replay: Replay, rule: Rule, finding: Finding, scale: Scale) -> Priced:
    if finding.change is None or not replay.trusted:
        return Priced(rule, finding, None, None, finding.withhold is None)
    price = replay.price(finding.change)
    worth = price.low_ns >= WORTH_SHARE * scale.trace_ns and finding.withhold is None
    return Priced(rule, finding, price, _saving(price, scale), worth)


def _saving(price: Price, scale: Scale) -> Saving:
    low, mid, high = (scale.saved_s(ns) for ns in (price.low_ns, price.mid_ns, price.high_ns))
    after_low, after_high = scale.step_s - low, scale.step_s - high
    return Saving(
        low=low,
        mid=mid,
        high=high,
        step_low_s=after_low,
        step_high_s=after_high,
        mfu_low=scale.mfu_at(after_low),
        mfu_high=scale.mfu_at(after_high),
    )


def rank(priced: list[Priced]) -> list[Priced]:
    """Best first: by the low end of the saving, then effort, then risk; unpriced findings last."""

    def key(p: Priced) -> tuple[float, int, int]:
        return (-(p.price.low_ns if p.price else -1.0), EFFORT.index(p.finding.effort), RISK.index(p.finding.risk))

    return sorted(priced, key=key)


def causes(ranked: list[Priced]) -> dict[str, str]:
    """For each finding that another worthwhile finding explains: the name of that root cause."""
    worthwhile = {p.rule.name for p in ranked if p.worth}
    found: dict[str, str] = {}
    for p in ranked:
        root = next((name for name in p.finding.symptom_of if name in worthwhile and name != p.rule.name), None)
        if root is not None and found.get(root) != p.rule.name:
            found[p.rule.name] = root
    return found


def make_plan(replay: Replay, ranked: list[Priced], scale: Scale, roofline_s: float | None) -> Plan:
    """Apply the best fix, replay, price all the others again; stop when none of them saves WORTH_SHARE of the step.

    The bottleneck moves: a fix that was worth little alone can be worth much after another one (faster kernels on a run that
    waited for its host), so advice withheld for its price takes part. The next fix is the one whose low end saves most, as in
    the ranking; its mid end is what the plan states.
    """
    folded = causes(ranked)
    waiting = [p for p in ranked if p.price is not None and p.finding.withhold is None and p.rule.name not in folded]
    chosen: list[Change] = []
    edits: tuple[Edit, ...] = ()
    now = replay.measured_ns
    steps: list[PlanStep] = []
    while waiting:
        sure = [now - replay.step_ns((*edits, *_change(p).low)) for p in waiting]
        best = max(range(len(waiting)), key=sure.__getitem__)
        if sure[best] < WORTH_SHARE * replay.measured_ns:
            break
        picked = waiting.pop(best)
        edits = (*edits, *_change(picked).mid)
        after = min(replay.step_ns(edits), now - sure[best])
        chosen.append(_change(picked))
        step_s, saved_s = scale.step_s - scale.saved_s(replay.measured_ns - after), scale.saved_s(now - after)
        steps.append(PlanStep(rule=picked.rule.name, step_s=step_s, saving_s=saved_s, mfu=scale.mfu_at(step_s)))
        now = after
    if not steps:
        return Plan(roofline_s=roofline_s)
    ends = [[e for change in chosen for e in getattr(change, end)] for end in ("low", "high")]
    low, high = sorted(scale.saved_s(max(replay.measured_ns - replay.step_ns(e), 0.0)) for e in ends)
    return Plan(
        steps=tuple(steps),
        saving_low_s=low,
        saving_high_s=high,
        mfu_low=scale.mfu_at(scale.step_s - low),
        mfu_high=scale.mfu_at(scale.step_s - high),
        roofline_s=roofline_s,
        stop=_stop(steps[-1].step_s, roofline_s),
    )


def _change(priced: Priced) -> Change:
    """The change of a finding that has a price."""
    assert priced.finding.change is not None
    return priced.finding.change


def _stop(step_s: float, roofline_s: float | None) -> str:
    if roofline_s is None or roofline_s <= 0:
        return "after these, no known fix saves 1 % of the step"
    if step_s < roofline_s:
        return f"after these, the step is below the {roofline_s * 1e3:.3g} ms that today's number formats allow at best"
    return f"after these, the step is {step_s / roofline_s:.1f}x its roofline of {roofline_s * 1e3:.3g} ms"
