"""The sentences of a report, in the order people read them: how much, where, what to do, what was not seen.

Renderers lay these out; the words themselves live once, here, so that terminal, markdown and HTML never disagree.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from mfu_doctor import quantities
from mfu_doctor.devices.dtypes import shown_dtype
from mfu_doctor.render.words import columns
from mfu_doctor.render.words.text import clean
from mfu_doctor.result.bottleneck import BUCKET_OF
from mfu_doctor.result.findings import CRASHED, FAILED, NOT_MEASURED, Diagnosis
from mfu_doctor.result.report import Report
from mfu_doctor.result.step import BUCKETS

BUCKET_LABELS = {name: name.replace("_", " ") for name in BUCKETS}
RISKS = {"rounding": "changes rounding", "convergence": "may change convergence"}
SAME = 0.0005  # two MFU figures closer than this print alike at one decimal
LONGEST_COMMAND_NAME = 58  # characters of a trace name that still fit into 80 columns on a line of their own
_SAID_BY_HEADLINE = ("unknown-peak", "partial-flop-count")  # cautions that say again why there is no MFU


@dataclass(frozen=True, slots=True)
class BucketRow:
    """One row of "where a step goes"; `tenths` are tenths of a per cent and sum to 1000 over the rows."""

    label: str
    seconds: float
    tenths: int
    note: str = ""

    @property
    def share(self) -> str:
        """The share as printed."""
        return f"{self.tenths / 10:.1f} %"


def headline(report: Report) -> tuple[str, str]:
    """The MFU label and what it is made of: achieved rate, peak, dtype and the peak's source."""
    mfu, device = report.mfu, report.device
    star = "*" if device.peak_measured else ""
    if mfu.value is None:
        return f"MFU{star} unknown", _unknown(report)
    label = f"MFU{star} {quantities.percent(mfu.value)}"
    if mfu.upper is not None and mfu.upper - mfu.value >= SAME:
        label = f"MFU{star} {quantities.percent_range(mfu.value, mfu.upper, 3)}"
    return label, _rates(report)


def _rates(report: Report) -> str:
    mfu, device = report.mfu, report.device
    rate = mfu.achieved_flops_s
    if rate is None or device.peak_flops is None:
        return ""
    kind = shown_dtype(device.dtype) if device.dtype else ""
    text = f"{quantities.flops_of_peak(rate, device.peak_flops)} {kind}".rstrip()
    source = peak_source(report)
    if device.peak_measured:
        return f"{text} (measured here{': ' + source if source else ''})"
    return f"{text} dense" + (f" ({source})" if source else "")


def peak_source(report: Report) -> str:
    """Where the peak comes from, short enough for a line: a web address becomes its host."""
    source = report.device.peak_source or ""
    return (urlsplit(source).hostname or source) if source.startswith(("http://", "https://")) else source


def _unknown(report: Report) -> str:
    """Why there is no MFU; always names the flag that would give one."""
    mfu, device = report.mfu, report.device
    name = f'"{device.name}"' if device.name else "this device"
    if device.peak_flops is None:
        reason = device.peak_reason or mfu.reason or f"no peak for {name}"
        return reason if "--" in reason else f"{reason}; pass --peak-flops F (dense FLOP/s of the dtype in use)"
    reason = mfu.reason or "the FLOPs of a step are not known"
    return (
        reason if mfu.model_flops is not None or "--" in reason else f"{reason}; pass --model-flops F (FLOP per step)"
    )


def basis(report: Report) -> str:
    """The numerator: FLOP per step, how they were found, and for how much of the run."""
    mfu = report.mfu
    if mfu.model_flops is None:
        return ""
    rate = f"{quantities.flops_rate(mfu.achieved_flops_s)}, " if mfu.value is None and mfu.achieved_flops_s else ""
    text = f"{rate}{quantities.flop_count(mfu.model_flops)} a step, "
    method = mfu.method or "counted"
    if mfu.coverage is None or method != "counted":
        return text + method
    # Rounded down: "100 %" must mean all of it.
    return f"{text}{math.floor(mfu.coverage * 100 + 1e-9)} % of matmul time counted"


def other_figures(report: Report) -> list[str]:
    """HFU and the other readings of MFU, where they print differently from the headline."""
    mfu = report.mfu
    named = (("HFU", mfu.hfu), ("causal MFU", mfu.causal), ("by kernel dtype", mfu.by_dtype))
    base = mfu.value
    return [
        f"{name} {quantities.percent(v)}"
        for name, v in named
        if v is not None and (base is None or abs(v - base) >= SAME)
    ]


def step_time(report: Report) -> tuple[str, str]:
    """The step label and how it was measured."""
    step = report.step_time_s
    if step is None:
        return "step unknown", "no complete step in this trace; record more steps"
    whole = report.run.steps_source == "whole trace"
    label = f"{'trace' if whole else 'step'} {quantities.duration(step.median)}"
    spread = f"+-{quantities.time_spread(step.mad, step.median)}, " if step.n > 1 else ""
    spread += f"mean {quantities.duration(step.mean)}, " if step.mean is not None else ""
    if step.source == "timed":
        with_it = f" (with it: {quantities.duration(step.profiled_median)})" if step.profiled_median else ""
        return label, f"{spread}measured without the profiler{with_it}"
    if whole:
        return label, f"{spread}the whole trace judged as one step"
    many = f"median of {step.n} profiled steps" if step.n > 1 else "one profiled step"
    source = report.run.steps_source
    return label, f"{spread}{many}" + ("" if source == "ProfilerStep" else f", steps from {source}")


def baseline(report: Report) -> str | None:
    """One sentence on the change since the baseline, or None without one."""
    base, step = report.baseline, report.step_time_s
    if base is None or step is None or not base.step_time_s.median:
        return None
    change = quantities.signed_percent(step.median / base.step_time_s.median - 1)
    text = f"step {quantities.duration(base.step_time_s.median)} -> {quantities.duration(step.median)} ({change})"
    if base.mfu is not None and report.mfu.value is not None:
        text += f", MFU {quantities.points(report.mfu.value - base.mfu)}"
    return text


def buckets(report: Report, *, empty: bool = False) -> list[BucketRow]:
    """Rows of "where a step goes", shares summing to exactly 100.0; empty buckets only when asked for."""
    split = report.breakdown
    values = [float(getattr(split, name)) for name in BUCKETS]
    parts = columns.apportion(values, 1000)
    notes = {"communication": "exposed", "memory_copy": "exposed"}
    if report.bound and any(values):
        notes[BUCKET_OF.get(report.bound, "")] = report.bound
    rows = zip(BUCKETS, values, parts, strict=True)
    return [BucketRow(BUCKET_LABELS[n], v, p, notes.get(n, "") if v > 0 else "") for n, v, p in rows if v > 0 or empty]


def idle_causes(report: Report) -> list[tuple[str, float]]:
    """Causes of idle with their seconds, largest first, without empty ones."""
    ranked = sorted(report.breakdown.idle_causes.items(), key=lambda item: -item[1])
    return [(name.replace("_", " "), value) for name, value in ranked if value > 0]


def nothing_found(report: Report) -> str:
    """The sentence for a run without findings: what was looked at, and what limits it next."""
    looked = len(report.passed) + len(report.withheld)
    start = "Nothing found." if looked else "Nothing could be judged."
    rows = sorted(buckets(report), key=lambda row: -row.seconds)
    if not rows:
        return start
    top = rows[0]
    if top.label != "compute":
        return f"{start} The next limit is {top.label}: {top.share} of the step."
    mfu, peak = report.mfu, report.device.peak_flops
    rate = mfu.hfu or mfu.value
    partly = mfu.upper is not None and mfu.value is not None and mfu.upper - mfu.value >= SAME
    if rate is None or peak is None or partly:
        return f"{start} The next limit is kernel efficiency: {top.share} of the step computes."
    efficiency = rate * report.breakdown.step_s / top.seconds
    return (
        f"{start} The next limit is kernel efficiency: "
        f"{top.share} of the step computes at {quantities.percent(efficiency, 0)} of peak."
    )


def saving(diagnosis: Diagnosis, dash: str = "-") -> str:
    """What a fix saves per step, as predicted."""
    if diagnosis.saving is not None:
        return quantities.duration_range(diagnosis.saving.low, diagnosis.saving.high, dash=dash)
    if diagnosis.throughput_gain is not None:
        return f"{quantities.percent_range(diagnosis.throughput_gain, diagnosis.throughput_gain)} more/s"
    return "not priced"


def mfu_after(diagnosis: Diagnosis, dash: str = "-") -> str:
    """The MFU after the fix, or nothing where it is not known."""
    found = diagnosis.saving
    if found is None or found.mfu_low is None or found.mfu_high is None:
        return ""
    return quantities.percent_range(found.mfu_low, found.mfu_high, dash=dash)


def remarks(diagnosis: Diagnosis) -> str:
    """The line under a fix: its detail, what else it explains, and how sure and how safe it is."""
    parts = [diagnosis.detail.rstrip(".")] if diagnosis.detail else []
    if diagnosis.explains:
        parts.append(f"also explains {', '.join(diagnosis.explains)}")
    if diagnosis.risk in RISKS:
        parts.append(RISKS[diagnosis.risk])
    if diagnosis.confidence == "hint":
        parts.append("a hint, not a prediction")
    return "; ".join(parts)


def replay_error(report: Report) -> str | None:
    """How far the unchanged replay is from the measured steps, as one phrase."""
    error = report.replay.error
    return None if error is None else f"replay error {quantities.signed_percent(error)}"


def footnote(report: Report) -> str | None:
    """What the star at MFU* means, or None where there is none."""
    if not report.device.peak_measured:
        return None
    return "* against the peak that this machine reached when measured: not comparable with MFU against a datasheet"


def unmeasured(report: Report) -> list[tuple[list[str], str]]:
    """Rules that did not judge, grouped by reason: not measured first, then crashed."""
    groups: dict[str, list[str]] = {}
    for found in report.diagnoses:
        if found.status == NOT_MEASURED:
            groups.setdefault(found.reason or "no reason was recorded", []).append(found.rule)
    for found in report.diagnoses:
        if found.status == CRASHED:
            groups.setdefault(f"the rule crashed: {found.reason or found.summary}", []).append(found.rule)
    return [(rules, reason) for reason, rules in groups.items()]


def cautions(report: Report) -> list[str]:
    """What a reader must know before believing the numbers, most important first, each once."""
    told = {d.rule: d for d in report.diagnoses if d.caution and d.status == FAILED and d.summary}
    found = [d.summary for d in told.values()]
    predicts = bool(report.plan.steps) or any(d.saving for d in report.diagnoses)
    replay = [report.replay.reason] if report.replay.reason and (predicts or not report.replay.trusted) else []
    notes = [report.run.steps_note] if report.run.steps_note else []
    repeated = {told[rule].summary for rule in _SAID_BY_HEADLINE if rule in told and report.mfu.value is None}
    if "few-steps" in told:
        repeated |= set(notes) & {told["few-steps"].detail}  # the rule says it in a sentence of its own
    every = dict.fromkeys([*report.problems, *found, *replay, *report.cautions, *notes, *report.mfu.notes])
    return [text for text in every if text not in repeated]


def commands(report: Report, source: str | None = None) -> list[tuple[str, str]]:
    """What to type next, each with what it gives; safe to paste whatever the trace is called.

    Args:
        report: the result.
        source: the trace as the user named it, where the report only knows the file's name.
    """
    name = source or report.run.trace
    quoted = shlex.quote(name)
    trace = quoted if name and name == clean(name) and len(quoted) <= LONGEST_COMMAND_NAME else "TRACE"
    first = next((d.rule for d in report.failed), None)
    rows = [(f"mfu-doctor explain {first}", "why, how the gain is predicted, when wrong")] if first else []
    rows.append((f"mfu-doctor report {trace} -o report.html", ""))
    rows.append((f"mfu-doctor annotate {trace} -o marked.json.gz", "open at ui.perfetto.dev"))
    return rows
