"""Price findings, which means predict the saving of each fix by replay; rank them, and list symptoms under their cause.

Each finding is priced alone. The predicted step is never shorter than its matmuls at peak. `plan` predicts what several fixes
save together: savings are never summed.
"""

from __future__ import annotations

from typing import get_args

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.replay.replay import Price, Replay
from mfu_doctor.analysis.run import Run
from mfu_doctor.diagnosis.rule_runner import attempt
from mfu_doctor.quantities import peak_rate, share
from mfu_doctor.result.findings import Saving, ranked_by
from mfu_doctor.rules.contract import WORTH_SHARE, Confidence, Effort, Finding, Risk, Rule
from mfu_doctor.units import NS_PER_S

# A saving of a tenth of the step is worth saying however restless the machine is.
_LARGE = 0.1
CONFIDENCE, EFFORT, RISK = get_args(Confidence), get_args(Effort), get_args(Risk)  # surest and least first
# Savings are alike if they differ by less than predictions are off: 12.5 % at the 90th percentile of examples/clinic.
ALIKE = 0.125


class Scale(Struct, frozen=True):
    """From the replayed run's nanoseconds to the report's seconds and MFU.

    Attributes:
        step_s: the mean step, which the report states.
        second_ns: nanoseconds of the replayed timeline that are one second of the run without the profiler.
        mfu: MFU, or None.
        roofline_s: the step if every current kernel ran at its roofline and nothing else took time; None if unknown.
        products_s: the step if only its matmuls took time, at the peak of their dtype; None if unknown.
        peak_flops: what `mfu` is relative to, in FLOP/s; None if unknown.
        flops: what `mfu` counts, in FLOP per mean step; None if unknown.
        noise: share of the step by which the run differs from another one like it.
    """

    step_s: float
    second_ns: float
    mfu: float | None
    roofline_s: float | None = None
    products_s: float | None = None
    peak_flops: float | None = None
    flops: float | None = None
    noise: float = 0.0

    @property
    def least_s(self) -> float:
        """The least saving, as the best estimate, that is a finding: less cannot be told from chance."""
        return max(WORTH_SHARE, min(self.noise, _LARGE)) * self.step_s

    @property
    def floor_s(self) -> float:
        """The shortest step that may be predicted: all its matmuls, or the model's FLOPs (MFU 100 %), at peak; 0 if unknown.

        The roofline of the current kernels is not such a bound, because fusion removes kernels and their traffic. If the measured
        run is already below a bound, the peak is wrong and the bound is not used.
        """
        ideal_s = (self.mfu or 0.0) * self.step_s
        return max((b for b in (self.products_s or 0.0, ideal_s) if b < self.step_s), default=0.0)

    def after(self, finding: Finding) -> Scale:
        """The scale after this fix: work that it removes is not counted; if it raises the peak, matmuls are not a bound."""
        left = self.without(finding.needless_flops)
        if finding.raised_peak is None:
            return left
        faster = max(finding.raised_peak / self.peak_flops, 1.0) if self.peak_flops else 1.0
        mfu = None if left.mfu is None else left.mfu / faster
        return replace(left, products_s=None, mfu=mfu, peak_flops=(self.peak_flops or 0.0) * faster or None)

    def without(self, flops: float) -> Scale:
        """The scale if the step had so many FLOP less to do; the same if it is not known how many it has."""
        if flops <= 0 or not self.flops:
            return self
        left = max(1.0 - flops / self.flops, 0.0)
        mfu, products_s = (None if value is None else value * left for value in (self.mfu, self.products_s))
        return replace(self, mfu=mfu, products_s=products_s, flops=self.flops * left)

    def saved_s(self, nanoseconds: float) -> float:
        """Seconds of the mean step that correspond to nanoseconds saved in the trace."""
        return nanoseconds / self.second_ns

    def possible_s(self, nanoseconds: float) -> float:
        """The same as a prediction: not below zero, and not more than what leaves the step at its floor."""
        return max(min(self.saved_s(nanoseconds), self.step_s - self.floor_s), 0.0)

    def mfu_at(self, step_s: float) -> float | None:
        """MFU if the same work took `step_s`."""
        return None if self.mfu is None or step_s <= 0 else self.mfu * self.step_s / step_s


def scale_of(run: Run) -> Scale:
    """The scale of a run: savings are per mean step, which has its share of rare work."""
    least = run.least_times
    second_ns = run.replay.measured_ns / run.mean_step.in_run(run.replay.recorded_ns) * NS_PER_S
    kernels, products = (None, None) if least is None else (least.kernels, least.products)
    return Scale(
        run.mfu.step_s,
        second_ns,
        run.mfu.report.value,
        roofline_s=None if kernels is None else kernels / second_ns,
        products_s=None if products is None else products / second_ns,
        peak_flops=run.mfu.reference_peak,
        flops=run.flops.flops() or None,
        noise=run.noise,
    )


class Priced(Struct, frozen=True):
    """A finding with its price; `worth` is False for advice that replay shows to save too little.

    `noise` is set to the run's own where only that makes it too little. `error` is set if its change could not be replayed: the
    rule is broken. `then_of` is what MFU after the fix is of, if not of what it is today.
    """

    rule: Rule
    finding: Finding
    price: Price | None
    saving: Saving | None
    worth: bool
    error: str | None = None
    then_of: str | None = None
    noise: float | None = None


def price_findings(replay: Replay, found: list[tuple[Rule, Finding]], scale: Scale) -> list[Priced]:
    """Price each finding alone; without a trustworthy replay findings stay, unpriced."""
    return [_price(replay, rule, finding, scale) for rule, finding in found]


def _price(replay: Replay, rule: Rule, finding: Finding, scale: Scale) -> Priced:
    change = finding.change
    if change is None or not replay.trusted:
        return Priced(rule, finding, None, None, finding.withhold is None)
    price, error = attempt(lambda: replay.price(change))
    if price is None:
        return Priced(rule, finding, None, None, False, f"pricing its fix: {error}")
    price = price.within(named_ns(replay, finding))
    then = scale.after(finding)
    saving = replace(_saving(price, then), at_best=finding.at_best)
    enough = saving.low >= WORTH_SHARE * scale.step_s
    noise = scale.noise if enough and saving.mid < scale.least_s else None
    worth = enough and noise is None and finding.withhold is None
    return Priced(rule, finding, price, saving, worth, then_of=mfu_then_of(scale, then), noise=noise)


def most_ns(replay: Replay, finding: Finding, scale: Scale) -> float:
    """What a fix saves at most, in nanoseconds of the replayed mean step: what is lost, and what leaves the step at its floor."""
    then = scale.after(finding)
    return max(min(named_ns(replay, finding), (then.step_s - then.floor_s) * then.second_ns), 0.0)


def named_ns(replay: Replay, finding: Finding) -> float:
    """What the rule names as lost, if its fix can get nothing else back; else the step."""
    return (1.0 if finding.at_most is None else finding.at_most) * replay.measured_ns


def mfu_then_of(now: Scale, then: Scale) -> str | None:
    """What MFU after a fix is of, if not of what it is of today: it can then be lower although the step is shorter."""
    if now.mfu is None:
        return None
    told = []
    if then.peak_flops is not None and then.peak_flops != now.peak_flops:
        told.append(f"of a peak of {peak_rate(then.peak_flops)}")
    if now.flops and then.flops is not None and then.flops < now.flops:
        told.append(f"without the removed {share(now.flops - then.flops, now.flops)} of the FLOPs")
    return ", ".join(told) or None


def _saving(price: Price, scale: Scale) -> Saving:
    low, mid, high = (scale.possible_s(ns) for ns in (price.low_ns, price.mid_ns, price.high_ns))
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


def rank(priced: list[Priced], step_s: float) -> list[Priced]:
    """Best first: by what a fix saves on average; of savings that are alike the surest, then that with least effort and risk.

    A fix that saves mostly what another finding is about comes after it. Findings without a prediction come last, by their share.

    Args:
        priced: the findings.
        step_s: the mean step, which puts a saving in steps beside one outside of them.
    """
    left, found = sorted(priced, key=lambda p: -_saved(p, step_s)), list[Priced]()
    while left:
        most = _saved(left[0], step_s)
        least = (1 - ALIKE) * most if most > 0 else most
        best = min((p for p in left if _saved(p, step_s) >= least), key=_doubts)
        best = next((p for p in left if p.worth and p.rule.name == best.finding.mostly_of), best)
        found.append(best)
        left = [p for p in left if p is not best]
    return found


def _saved(p: Priced, step_s: float) -> float:
    """What a finding is ranked by, in seconds; of one without a prediction its share, below every saving."""
    if p.saving is not None:
        return ranked_by(p.saving, trades=p.finding.is_choice)
    outside = p.finding.outside_share
    return (p.finding.step_share or 0.0) - 1.0 if outside is None else outside * step_s


def _doubts(p: Priced) -> tuple[int, int, int]:
    """What speaks against a fix of two that save alike."""
    is_wide = p.saving is not None and p.saving.is_wide
    unsure = CONFIDENCE.index(p.finding.confidence) + is_wide
    return unsure, EFFORT.index(p.finding.effort), RISK.index(p.finding.risk)


def causes(ranked: list[Priced]) -> dict[str, str]:
    """For each finding that another worthwhile finding explains: the name of that root cause, which nothing explains in turn."""
    worthwhile = {p.rule.name for p in ranked if p.worth}
    found: dict[str, str] = {}
    for p in ranked:
        cause = next((name for name in p.finding.symptom_of if name in worthwhile and name != p.rule.name), None)
        if cause is not None and _root(found, cause) != p.rule.name:
            found[p.rule.name] = cause
    return {name: _root(found, cause) for name, cause in found.items()}


def _root(found: dict[str, str], name: str) -> str:
    while name in found:
        name = found[name]
    return name


def change_of(priced: Priced) -> Change:
    """The change of a finding that has a price."""
    assert priced.finding.change is not None
    return priced.finding.change
