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
    """Apply the best fix, replay, price the rest again; stop when the next fix saves under WORTH_SHARE of the step.

    Lazy greedy: a fix never gains from others having been applied as much as it could lose, so its last price is an upper bound
    and only the head of the queue is priced again.
    """
    folded = causes(ranked)
    queue = [
        (p.price.mid_ns, p, p.finding.change)
        for p in ranked
        if p.worth and p.price is not None and p.finding.change is not None and p.rule.name not in folded
    ]
    chosen: list[tuple[Priced, Change]] = []
    edits: tuple[Edit, ...] = ()
    now = replay.measured_ns
    steps: list[PlanStep] = []
    while queue:
        queue.sort(key=lambda item: -item[0])
        _, best, change = queue.pop(0)
        after = replay.step_ns((*edits, *change.mid))
        gain = now - after
        if queue and gain < queue[0][0]:
            if gain >= WORTH_SHARE * replay.measured_ns:
                queue.append((gain, best, change))
            continue
        if gain < WORTH_SHARE * replay.measured_ns:
            continue
        edits, now = (*edits, *change.mid), after
        chosen.append((best, change))
        step_s = scale.step_s - scale.saved_s(replay.measured_ns - after)
        steps.append(
            PlanStep(rule=best.rule.name, step_s=step_s, saving_s=scale.saved_s(gain), mfu=scale.mfu_at(step_s))
        )
    if not steps:
        return Plan(roofline_s=roofline_s)
    ends = [[e for _, c in chosen for e in getattr(c, end)] for end in ("low", "high")]
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


def _stop(step_s: float, roofline_s: float | None) -> str:
    if roofline_s is None or roofline_s <= 0:
        return "after these, no known fix saves 1 % of the step"
    return f"after these, the step is {step_s / roofline_s:.1f}x its roofline of {roofline_s * 1e3:.3g} ms"
