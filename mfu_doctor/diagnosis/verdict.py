"""The verdict on a run, made from the split of its step and its first fix together, so that the two cannot contradict each other.

One sentence: what has the time of the step, then what can be saved, and how that amount is known. A run is called after one owner
of its time only if that has more than half of it. Where no fix is worth it, the sentence says so; where most of the step is lost
and nothing could be priced, it says why, and which recording would tell.
"""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.analysis.views.steps import WHOLE
from mfu_doctor.diagnosis.core_waiting import WAITING, bound_of, mostly_waits
from mfu_doctor.quantities import percent_range, share
from mfu_doctor.quantities.parts import part_of
from mfu_doctor.result.bottleneck import BOUND_SHARE, HOST, VOCABULARY, Owned, host_parts, owners_of
from mfu_doctor.result.caveats import ADVICE
from mfu_doctor.result.findings import (
    AT_STAKE,
    NOT_MEASURED,
    WITHHELD,
    Advice,
    Diagnosis,
    Saving,
    changes_learning,
    first_words,
    result_words,
)
from mfu_doctor.result.report import Report
from mfu_doctor.result.run import Mfu
from mfu_doctor.result.run_verdict import Limit, Loss, RunVerdict
from mfu_doctor.result.step import LONG, OTHER_KERNELS, Breakdown, StepRow, mean_of
from mfu_doctor.rules.catalogue import RULES
from mfu_doctor.rules.host.growing_step import GROWS, growing_step
from mfu_doctor.rules.host.outside_steps import outside_steps

# An owner is named beside the first one if it has this share of the step; at most so many are.
_NAMED_SHARE, _MOST_NAMED = 0.10, 3
_MOST = 0.5  # of what the kernels take at full rates: kernels whose rates are not known may not have more of it
# The rules that price what an owner of the step takes: if none of them did, one of them says why.
_PRICED_BY = {
    "data_loading": ("input-bound", "cold-workers", "slow-sample", "restarted-loader"),
    "communication": ("exposed-communication", "slow-link"),
    "memory_copy": ("pageable-copy", "blocking-copy", "pageable-read"),
    HOST: ("host-bound", "ungraphed-steps"),
    "sync": ("device-sync",),
    "host_compute": ("host-computation",),
    "allocator": ("allocator-churn", "allocator-retry"),
    "compile": ("recompilation",),
    "gc": ("gc-pause",),
    "queue": ("held-queue",),
}


def verdict_of(report: Report) -> RunVerdict:
    """The verdict on a run. A run without a backward pass is called so in its first words.

    Args:
        report: all else of it, its caveats too.
    """
    found, forward = _verdict_of(report), report.forward_only
    if found.limit is None or forward is None:
        return found
    said, called = found.sentence, forward.summary.partition(":")[0]
    joined = f", {said[:1].lower()}{said[1:]}" if found.limit.bound or said[:1].isdigit() else f". {said}"
    return replace(found, sentence=called + joined)


def limits_of(report: Report) -> str:
    """Who has the time of the step, without a fix; empty if the step could not be divided.

    Args:
        report: its split, its MFU and its device count.
    """
    split = _in_the_run(report, report.breakdown)
    owners = owners_of(split)
    return _shares(report, owners, split.step_s, _bound(report, split)) if owners else ""


def _bound(report: Report, split: Breakdown) -> str | None:
    """What the run is called; None also where the recording is no guide to it: what that has most of limits no step."""
    return None if _no_advice(report) is not None else bound_of(report, split)


def _verdict_of(report: Report) -> RunVerdict:
    if report.device.unseen is not None:
        return RunVerdict(sentence="Nothing of the GPU is in this trace, so what limits the run is not known.")
    split = _in_the_run(report, report.breakdown)
    owners = owners_of(split)
    if not owners:
        return RunVerdict(sentence="This trace has no step whose time could be divided.")
    name, first = _bound(report, split), owners[0]
    limit = Limit(owner=first.owner, seconds=first.seconds, share=first.seconds / split.step_s, bound=name)
    top = next(iter(report.failed), None)
    shares = _shares(report, owners, split.step_s, name)
    if top is not None:
        loss = Loss(rule=top.rule, place=top.place, saving_s=top.saving.mid if top.saving else None, sure=top.sure)
        is_of_first = first.seconds > BOUND_SHARE * split.step_s and top.rule in _PRICED_BY.get(first.owner, ())
        if top.rule == outside_steps.name:
            return _beside_the_steps(report, top, RunVerdict(sentence=shares, limit=limit, loss=loss))
        told = _had_back(report, top) if is_of_first else _recovered(report, top)
        return RunVerdict(sentence=f"{shares}. {told}.", limit=limit, loss=loss)
    computing = first.owner == "compute" and first.seconds > BOUND_SHARE * split.step_s
    told = f"; {_nothing(report)}." if computing else f". {_unpriced(report, first.owner)}"
    return RunVerdict(sentence=shares + told, limit=limit)


def _beside_the_steps(report: Report, top: Diagnosis, found: RunVerdict) -> RunVerdict:
    """What is not steps comes before what limits a step; what was just called other work is then no part of one.

    Args:
        report: the run.
        top: the finding about what is not steps.
        found: the verdict on the mean step, which has that part of the other work that lies in long steps.
    """
    said, shares = _outside(report, top), found.sentence
    if report.whole_run is None or not report.whole_run.other_work:
        return replace(found, sentence=f"{said}. In the steps: {shares[:1].lower()}{shares[1:]}.")
    usual = [row.split for row in report.steps if row.steady and not _is_long(report, row)]
    if not usual:
        return replace(found, sentence=f"{said}. No usual step was recorded.", limit=None)
    split = _in_the_run(report, mean_of(usual))
    owners = owners_of(split)
    # MFU is of the mean step and would stand beside shares of the usual one.
    shares = _shares(replace(report, mfu=Mfu()), owners, split.step_s, None)
    limit = Limit(owner=owners[0].owner, seconds=owners[0].seconds, share=owners[0].seconds / split.step_s)
    return replace(found, sentence=f"{said}. In usual steps: {shares[:1].lower()}{shares[1:]}.", limit=limit)


def _is_long(report: Report, row: StepRow) -> bool:
    return report.step_time_s is not None and row.split.step_s > LONG * report.step_time_s.median


def _in_the_run(report: Report, split: Breakdown) -> Breakdown:
    """This split without the wait for data that the rest of the run does not have."""
    gone = split.data_loading * (1.0 - (1.0 if report.later_wait is None else report.later_wait))
    return replace(split, step_s=split.step_s - gone, data_loading=split.data_loading - gone) if gone else split


def _shares(report: Report, owners: tuple[Owned, ...], step_s: float, bound: str | None) -> str:
    """Who has the time: one name if one has most of it, else the largest ones."""
    first, whole = owners[0], "trace" if report.run.steps_source == WHOLE else "step"
    start = "" if report.later_wait in (None, 1.0) else "After the recorded steps: "
    if first.owner != "compute" and first.seconds > BOUND_SHARE * step_s:
        words = _takes(report, first)
        named = f"{bound[:1].upper()}{bound[1:]}: {words}" if bound else f"{words[:1].upper()}{words[1:]}"
        if first.owner == "other":
            return f"{start}Idle for {share(first.seconds, step_s)} of the {whole}, for a reason that is not known"
        return f"{start}{named} takes {share(first.seconds, step_s)} of the {whole}{_parts(report, first, step_s)}"
    named_ones = [own for own in owners[:_MOST_NAMED] if own is first or own.seconds >= _NAMED_SHARE * step_s]
    told = [f"{share(own.seconds, step_s)} {_takes(report, own)}" for own in named_ones]
    if any(own.owner == "compute" for own in named_ones):
        told += _mfu(report)
    return start + ", ".join(told)


def _takes(report: Report, own: Owned) -> str:
    """What takes the time. On a CPU nothing waits for the CPU: what a device waits for there is Python between operators."""
    if own.owner == "compute" and mostly_waits(report):
        return WAITING
    return VOCABULARY[own.parts[0].owner if own.parts and report.device.kind == "cpu" else own.owner].takes


def _parts(report: Report, own: Owned, step_s: float) -> str:
    """Why the device waits for the CPU."""
    if own.owner != HOST or report.device.kind == "cpu":
        return ""
    parts = {part.owner: part.seconds for part in own.parts}
    return host_parts(parts.get("launch", 0.0), parts.get("python", 0.0), step_s)


def _mfu(report: Report) -> list[str]:
    """MFU, which is of the whole step and not of the part that computes; empty if it is not known."""
    mfu = report.mfu
    if mfu.value is None:
        return []
    value = share(mfu.value, 1.0) if mfu.upper is None else percent_range(mfu.value, mfu.upper)
    return [f"MFU* {value} (* of a peak measured here)" if report.device.peak_measured else f"MFU {value}"]


def _recovered(report: Report, top: Diagnosis) -> str:
    """The first fix: what it is about, where, and what it saves."""
    where = f"{about(report, top)} ({_where(top)})"
    begin = first_words(top, report.failed)
    if top.saving is None and top.throughput_gain is not None:
        gain = percent_range(top.throughput_gain, top.throughput_gain)
        return f"{begin}: {where}; {gain} more samples a second ({top.sure})"
    saved = _saved(report, top.saving)
    if saved is None:
        return f"{begin}: {where}; what it saves could not be predicted"
    if top.is_question:
        return f"{begin}: {where}; {saved} {AT_STAKE} ({top.sure})"
    return f"{begin}: {where}; saves {saved} ({result_words(top.saving, report.step_s, top.sure)})"


def _outside(report: Report, top: Diagnosis) -> str:
    """What is not steps has most of the run: that limits it, and comes before what limits a step."""
    if top.throughput_gain is None:
        return top.summary
    gain = percent_range(top.throughput_gain, top.throughput_gain)
    begin = first_words(top, report.failed) if top.trades else "Fix first"
    return f"{top.summary}. {begin}: this ({_where(top)}); {gain} more samples a second ({top.sure})"


def about(report: Report, top: Advice) -> str:
    """What the first fix is about in a few words. On a CPU nothing waits for a device: there it is what takes the time.

    Of a choice that changes what is learned it is what is chosen, and not what that costs.

    Args:
        report: of the run, or of any rank of the job.
        top: its first finding.
    """
    if changes_learning(top):
        return f"{top.summary[:1].lower()}{top.summary[1:].partition(':')[0]}"
    title = _title(top.rule, top.summary)
    owner = next((owner for owner, rules in _PRICED_BY.items() if top.rule in rules), None)
    if report.device.kind != "cpu" or owner is None or "device" not in title:
        return title
    return VOCABULARY["python" if owner == HOST else owner].takes


def _had_back(report: Report, top: Diagnosis) -> str:
    """The same where the first fix is about what has most of the step, which stands before it: not a second time."""
    saved = _saved(report, top.saving)
    if saved is None:
        return f"How much of it can be saved could not be predicted ({_where(top)})"
    begin = f"{saved[:1].upper()}{saved[1:]}"
    if top.is_question:
        return f"{begin} {AT_STAKE} ({_where(top)}; {top.sure})"
    return f"{begin} can be saved ({_where(top)}; {result_words(top.saving, report.step_s, top.sure)})"


def _where(top: Diagnosis) -> str:
    """The rule, and the file and line if they are known."""
    return ", ".join(part for part in (top.rule, (top.place or "").rpartition("/")[2]) if part)


def _saved(report: Report, saving: Saving | None) -> str | None:
    """The best estimate as a part of the step; None if there is none."""
    if saving is None:
        return None
    if report.savings_are_shares or report.step_time_s is None:
        return f"{saving.about or 'about'} {share(saving.mid, report.step_s)} of the step"
    return f"{saving.about} {part_of(saving.mid, report.step_s)}".lstrip()


def _nothing(report: Report) -> str:
    """That no fix is worth it, and how far the step is from what its kernels need at least; or why nobody can say so."""
    no_advice = _no_advice(report)
    if no_advice is not None:
        return no_advice
    if not report.replay.trusted and report.replay.reason:
        return report.replay.reason
    if not report.passed and not report.withheld:
        return "no rule could be checked"
    growing = report.diagnosis(growing_step.name)
    if growing is not None and growing.status == NOT_MEASURED and (growing.reason or "").startswith(GROWS):
        return growing.reason or ""
    whole = "trace" if report.run.steps_source == WHOLE else "step"
    least = report.plan.roofline_s
    told = least is not None and _is_counted(report, least)
    far = f". At full rates its kernels would take {part_of(least or 0.0, report.step_s)}" if told else ""
    sure = " for sure" if report.unsure else ""
    return f"no known fix saves 1 % of the {whole}{sure}{far}"


def _is_counted(report: Report, least_s: float) -> bool:
    """Whether what the kernels take at full rates is known: of most of it, it is, and it is not what they take now."""
    mfu, recorded = report.mfu, sum(bar.seconds for bar in report.waterfall)
    as_they_are = sum(bar.seconds for bar in report.waterfall if bar.group == OTHER_KERNELS and bar.basis == "measured")
    known = as_they_are * report.step_s <= _MOST * least_s * recorded
    return mfu.value is not None and mfu.upper is None and known


def _unpriced(report: Report, owner: str) -> str:
    """Why nothing could be priced although the step does not compute, and what would tell."""
    no_advice = _no_advice(report)
    if no_advice is not None:
        return f"No saving can be predicted: {no_advice}."
    if not report.replay.trusted and report.replay.reason:
        return f"No saving can be predicted: {report.replay.reason}."
    said = [report.diagnosis(name) for name in _PRICED_BY.get(owner, ())]
    why = next((d.reason for d in said if d is not None and d.status in (NOT_MEASURED, WITHHELD) and d.reason), None)
    if why is not None:
        return f"How much of it could be saved is not known: {why}."
    if report.run.steps_source == WHOLE:
        return "How much of it could be saved is not known, because the trace has no steps."
    return "No rule found what causes it."


def _no_advice(report: Report) -> str | None:
    """Why advice on this recording would be wrong; the caveat itself stands before the sentence, with its remedy."""
    found = next((c for c in report.caveats if c.spoils == ADVICE), None)
    return None if found is None else _title(found.kind, found.text)


def _title(rule: str, otherwise: str) -> str:
    """What a rule is about in a few words."""
    return next((known.title for known in RULES if known.name == rule), otherwise)
