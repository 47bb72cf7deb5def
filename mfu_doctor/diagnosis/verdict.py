"""The verdict on a run, made from the split of its step and its first fix together, so that the two cannot contradict each other.

One sentence: what has the time of the step, then what can be had back. A run is called after one owner of its time only if that
has more than half of it. Where no fix is worth it, the sentence says so; where most of the step is lost and nothing could be
priced, it says why, and which recording would tell.
"""

from __future__ import annotations

from dataclasses import replace

from mfu_doctor.analysis.views.steps import WHOLE
from mfu_doctor.quantities import part_of, percent_range, share
from mfu_doctor.result.bottleneck import BOUND_SHARE, OWNER_WORDS, Owned, bound_by, owners_of
from mfu_doctor.result.caveats import ADVICE
from mfu_doctor.result.findings import FAILED, NOT_MEASURED, WITHHELD, Diagnosis
from mfu_doctor.result.report import Report
from mfu_doctor.result.run_verdict import Limit, Loss, RunVerdict
from mfu_doctor.result.step import Breakdown
from mfu_doctor.rules.catalogue import RULES

# An owner is named beside the first one if it has this share of the step; at most so many are.
_NAMED_SHARE, _MOST_NAMED = 0.10, 3
# A run computes nearly always if all else takes less than this, and well if its step is at most so many times the lower bound.
_REST, _NEAR_BOUND = 0.10, 2.0
# The rules that price what an owner of the step takes: if none of them did, one of them says why.
_PRICED_BY = {
    "data_loading": ("input-bound", "cold-workers", "slow-sample"),
    "communication": ("exposed-communication", "slow-link"),
    "memory_copy": ("pageable-copy", "blocking-copy", "pageable-read"),
    "launch": ("host-bound", "ungraphed-steps"),
    "python": ("host-bound",),
    "sync": ("device-sync",),
    "host_compute": ("host-computation",),
    "allocator": ("allocator-churn", "allocator-retry"),
    "compile": ("recompilation",),
    "gc": ("gc-pause",),
    "queue": ("held-queue",),
}
_INFERENCE = "forward-only"  # the rule that finds it
_NAME = "Python"  # keeps its capital letter inside a sentence
_RECORD_STEPS = "record 5 steps after 10 of warm-up: torch.profiler.schedule(wait=10, warmup=2, active=5)"


def verdict_of(report: Report) -> RunVerdict:
    """The verdict on a run. Inference is called so in its first word.

    Args:
        report: all else of it, its caveats too.
    """
    found, inference = _verdict_of(report), report.diagnosis(_INFERENCE)
    if found.limit is None or inference is None or inference.status != FAILED:
        return found
    said = found.sentence
    return replace(found, sentence=f"Inference, {said if said.startswith(_NAME) else said[:1].lower() + said[1:]}")


def _verdict_of(report: Report) -> RunVerdict:
    if report.device.unseen is not None:
        return RunVerdict(sentence="Nothing of the GPU is in this trace, so what limits the run is not known.")
    split = _in_the_run(report)
    owners = owners_of(split)
    if not owners:
        return RunVerdict(sentence="This trace has no step whose time could be divided.")
    name = bound_by(split)
    first = owners[0]
    limit = Limit(owner=first.owner, seconds=first.seconds, share=first.seconds / split.step_s, bound=name)
    top = next(iter(report.failed), None)
    shares = _shares(report, owners, split.step_s, name)
    if top is not None:
        loss = Loss(rule=top.rule, place=top.place, saving_s=top.saving.mid if top.saving else None, sure=top.sure)
        return RunVerdict(sentence=f"{shares}. {_recovered(report, top)}.", limit=limit, loss=loss)
    computing = first.owner == "compute" and first.seconds > BOUND_SHARE * split.step_s
    if not computing:
        return RunVerdict(sentence=f"{shares}. {_unpriced(report, first.owner)}", limit=limit)
    nothing, is_sure = _nothing(report)
    healthy = is_sure and split.step_s - first.seconds < _REST * split.step_s and _is_near_bound(report, split)
    sentence = f"Healthy: {shares}; {nothing}." if healthy else f"{shares}; {nothing}."
    return RunVerdict(sentence=sentence, limit=limit, healthy=healthy)


def _in_the_run(report: Report) -> Breakdown:
    """The split without the wait for data that the rest of the run does not have."""
    split = report.breakdown
    gone = split.data_loading * (1.0 - (1.0 if report.later_wait is None else report.later_wait))
    return replace(split, step_s=split.step_s - gone, data_loading=split.data_loading - gone) if gone else split


def _shares(report: Report, owners: tuple[Owned, ...], step_s: float, bound: str | None) -> str:
    """Who has the time: one name if one has most of it, else the largest ones."""
    first, whole = owners[0], "trace" if report.run.steps_source == WHOLE else "step"
    start = "" if report.later_wait in (None, 1.0) else "After the recorded steps: "
    if first.owner != "compute" and first.seconds > BOUND_SHARE * step_s:
        words = OWNER_WORDS[first.owner]
        named = f"{bound[:1].upper()}{bound[1:]}: {words}" if bound else f"{words[:1].upper()}{words[1:]}"
        if first.owner == "other":
            return f"{start}Idle for {share(first.seconds, step_s)} of the {whole}, for a reason that is not known"
        return f"{start}{named} takes {share(first.seconds, step_s)} of the {whole}"
    named_ones = [own for own in owners[:_MOST_NAMED] if own is first or own.seconds >= _NAMED_SHARE * step_s]
    return start + ", ".join(_named(report, own, step_s) for own in named_ones)


def _named(report: Report, own: Owned, step_s: float) -> str:
    mfu = report.mfu
    text = f"{share(own.seconds, step_s)} {OWNER_WORDS[own.owner]}"
    if own.owner != "compute" or mfu.value is None:
        return text
    value = share(mfu.value, 1.0) if mfu.upper is None else percent_range(mfu.value, mfu.upper)
    return f"{text} at {value} MFU{'*' if report.device.peak_measured else ''}"


def _recovered(report: Report, top: Diagnosis) -> str:
    """The first fix: what it is about, where, and what it saves."""
    file = (top.place or "").rpartition("/")[2]
    title = _title(top.rule, top.summary)
    about_it = (
        top.summary if report.device.kind == "cpu" and "device" in title else title
    )  # there the CPU is the device
    where = f"{about_it} ({', '.join(part for part in (top.rule, file) if part)})"
    if top.saving is None and top.throughput_gain is not None:
        gain = percent_range(top.throughput_gain, top.throughput_gain)
        return f"First to change: {where}, {gain} more samples a second"
    if top.saving is None:
        return f"First to change: {where}; what it saves could not be predicted"
    about = "about " if top.saving.is_wide or report.savings_are_shares else ""
    step = report.step_time_s
    if report.savings_are_shares or step is None:
        saved = f"{about}{share(top.saving.mid, step.stated if step else report.breakdown.step_s)} of the step"
    else:
        saved = f"{about}{part_of(top.saving.mid, step.stated)}"
    return f"The largest loss to recover: {where}, {saved}"


def _nothing(report: Report) -> tuple[str, bool]:
    """That no fix is worth it, or why nobody can say so; and whether it is the first."""
    no_advice = _no_advice(report)
    if no_advice is not None:
        return no_advice, False
    if not report.replay.trusted and report.replay.reason:
        return report.replay.reason, False
    checked = len(report.passed) + len(report.withheld)
    whole = "trace" if report.run.steps_source == WHOLE else "step"
    return (f"no known fix saves 1 % of the {whole}", True) if checked else ("no rule could be checked", False)


def _is_near_bound(report: Report, split: Breakdown) -> bool:
    """Whether the step is near what its kernels could take at best: computing alone can also mean slow kernels."""
    least, mfu = report.plan.roofline_s, report.mfu
    is_counted = mfu.value is not None and mfu.upper is None
    return is_counted and least is not None and split.step_s <= _NEAR_BOUND * least


def _unpriced(report: Report, owner: str) -> str:
    """Why nothing could be priced although the step does not compute, and what would tell."""
    no_advice = _no_advice(report)
    if no_advice is not None:
        return f"Nothing can be priced: {no_advice}."
    if not report.replay.trusted and report.replay.reason:
        return f"Nothing can be priced: {report.replay.reason}."
    said = [report.diagnosis(name) for name in _PRICED_BY.get(owner, ())]
    why = next((d.reason for d in said if d is not None and d.status in (NOT_MEASURED, WITHHELD) and d.reason), None)
    if why is not None:
        return f"Nothing of it could be priced: {why}."
    if report.run.steps_source == WHOLE:
        return f"Nothing of it could be priced, because the trace has no steps: {_RECORD_STEPS}."
    return "No rule found what causes it."


def _no_advice(report: Report) -> str | None:
    """Why advice on this recording would be wrong; the caveat itself stands before the sentence, with its remedy."""
    found = next((c for c in report.caveats if c.spoils == ADVICE), None)
    return None if found is None else _title(found.kind, found.text)


def _title(rule: str, otherwise: str) -> str:
    """What a rule is about in a few words."""
    return next((known.title for known in RULES if known.name == rule), otherwise)
