"""The sentences of a report, in the order of reading: the MFU, where the time goes, what to do, what was not measured.

Renderers only lay them out. The words stand here once, so that terminal, markdown and HTML agree.
"""

from __future__ import annotations

import math
from urllib.parse import urlsplit

from msgspec import Struct

from mfu_doctor import quantities
from mfu_doctor.devices.dtypes import shown_dtype
from mfu_doctor.quantities import parts
from mfu_doctor.render.words import columns, labels
from mfu_doctor.result.bottleneck import BUCKET_OF, named
from mfu_doctor.result.findings import CRASHED, NOT_MEASURED, Diagnosis, Saving
from mfu_doctor.result.report import Report
from mfu_doctor.result.run import Mfu
from mfu_doctor.result.step import BUCKETS, StepTime

BUCKET_LABELS = {name: named(name) for name in BUCKETS}
ENOUGH_FOR_P95 = 20  # with fewer steps the longest one is all that is known of the slow end
SAME = 0.0005  # two MFU values closer than this look the same at one decimal
_MATMULS = ("achieved", "recompute", "matmul")  # groups of the waterfall
_FEW_MATMULS = 0.05  # of the step
_BOTH = 2  # dtypes that a sentence can name


class BucketRow(Struct, frozen=True):
    """One row of the step time breakdown. `tenths` are tenths of a per cent; those of all rows sum to 1000."""

    label: str
    seconds: float
    tenths: int
    note: str = ""

    @property
    def share(self) -> str:
        """The share as printed."""
        return f"{self.tenths / 10:.1f} %"


def headline(report: Report, *, brief: bool = False) -> tuple[str, str]:
    """The MFU label, and what it is a share of, with the other kinds of MFU. `brief`: without the source of the peak."""
    mfu, device = report.mfu, report.device
    star = "*" if device.peak_measured else ""
    if device.unseen is not None:
        return "MFU unknown", device.unseen
    if mfu.value is None:
        return f"MFU{star} unknown", _unknown(report)
    label = f"MFU{star} {quantities.percent(mfu.value)}"
    if mfu.upper is not None and mfu.upper - mfu.value >= SAME:
        label = f"MFU{star} {quantities.percent_range(mfu.value, mfu.upper, 3)}"
    parts = (_of_peak(report, brief=brief), _of_own_peak(report), *_other_figures(mfu))
    return label, "; ".join(part for part in parts if part)


def _of_peak(report: Report, *, brief: bool) -> str:
    """What MFU is a share of: "of the bf16 tensor-core peak (311 of 989.5 TFLOP/s, NVIDIA H100 SXM datasheet)"."""
    rate, device = report.mfu.achieved_flops_s, report.device
    if rate is None or device.peak_flops is None:
        return ""
    # Without a dtype it is the user's own peak, of whatever dtype.
    kind = " ".join(part for part in (shown_dtype(device.dtype), device.matrix_unit) if part) if device.dtype else ""
    peak = f"the {kind} peak" if kind else "the peak"
    source = "" if brief else peak_source(report)
    rates = ", ".join(part for part in (quantities.flops_of_peak(rate, device.peak_flops), source) if part)
    return f"of {peak}{' measured here' if device.peak_measured else ''} ({rates})"


def _of_own_peak(report: Report) -> str:
    """The same work against the peaks of the dtypes in which it ran, if that looks different: fp32 on a GPU with tensor cores."""
    value, own = report.mfu.value, report.mfu.by_dtype
    if value is None or own is None or abs(own - value) < SAME:
        return ""
    dtypes = [shown_dtype(dtype) for dtype in report.mfu.computes_in]
    if len(dtypes) == 1:
        return f"{quantities.percent(own)} of the {dtypes[0]} peak that this run computes in"
    if len(dtypes) == _BOTH:
        return f"{quantities.percent(own)} of the {' and '.join(dtypes)} peaks it computes in"
    return f"{quantities.percent(own)} of the peak of each kernel's own dtype"


def peak_source(report: Report) -> str:
    """The source of the peak in one line. Of a web address only the host is shown."""
    source = report.device.peak_source or ""
    return (urlsplit(source).hostname or source) if source.startswith(("http://", "https://")) else source


def _unknown(report: Report) -> str:
    """Why there is no MFU, and which option gives one."""
    mfu, device = report.mfu, report.device
    name = f'"{device.name}"' if device.name else "this device"
    if device.peak_flops is None:
        reason = device.peak_reason or mfu.reason or f"no peak for {name}"
        return reason if "--" in reason else f"{reason}; pass --peak-flops F (dense FLOP/s of the dtype in use)"
    reason = mfu.reason or "the FLOPs of a step are not known"
    return (
        reason if mfu.model_flops is not None or "--" in reason else f"{reason}; pass --model-flops F (FLOP per step)"
    )


def steps(report: Report) -> str:
    """How many steps were analysed; where none is marked, the trace is no step either."""
    whole = report.run.steps_source == "whole trace"
    return "no steps marked" if whole else quantities.counted(report.run.steps, "step")


def basis(report: Report) -> str:
    """The numerator: FLOP per step, their source, and the share of the matmul time that they cover."""
    mfu = report.mfu
    if mfu.model_flops is None:
        return ""
    rate = f"{quantities.flops_rate(mfu.achieved_flops_s)}, " if mfu.value is None and mfu.achieved_flops_s else ""
    text = f"{rate}{quantities.flop_count(mfu.model_flops)} per step, "
    method = mfu.method or "counted"
    if mfu.coverage is None or method != "counted":
        return text + method
    # Rounded down: "100 %" must mean everything. Less than 1 % is not nothing, because FLOPs were counted.
    covered = math.floor(mfu.coverage * 100 + 1e-9)
    matmuls = _matmul_share(report)
    if matmuls is None or matmuls >= _FEW_MATMULS:
        return f"{text}covering {covered or '<1'} % of matmul time"
    return f"{text}matmuls take {quantities.percent(matmuls)} of the step: MFU says little"


def _matmul_share(report: Report) -> float | None:
    """The share of the step in which matmuls run, whatever they reach; None if it is not known."""
    whole = sum(bar.seconds for bar in report.waterfall)
    return sum(bar.seconds for bar in report.waterfall if bar.group in _MATMULS) / whole if whole > 0 else None


def _other_figures(mfu: Mfu) -> list[str]:
    """HFU and causal MFU, each only if it looks different from MFU."""
    named = (("HFU", mfu.hfu), ("causal MFU", mfu.causal))
    return [
        f"{name} {quantities.percent(value)}"
        for name, value in named
        if value is not None and mfu.value is not None and abs(value - mfu.value) >= SAME
    ]


def step_time(report: Report, *, brief: bool = False) -> tuple[str, str]:
    """The step label and how it was measured. `brief`: without what the rest of the screen says, or what is always so."""
    step = report.step_time_s
    if step is None and report.device.unseen is not None:
        return "step unknown", "where a step begins and ends on the GPU is not in this trace"
    if step is None:
        return "step unknown", "no complete step in this trace; record more steps"
    whole = report.run.steps_source == "whole trace"
    label = f"{'trace' if whole else 'step'} {quantities.duration(step.stated)}"
    if whole:
        return label, "the whole trace is treated as one step"
    return label, f"{_measured(report, step, brief=brief)}{_around(step, brief=brief)}"


def _measured(report: Report, step: StepTime, *, brief: bool) -> str:
    """Of which steps the mean is."""
    many = f"mean of {step.n}" if step.n > 1 else "one"
    rare = f", one in {step.every} long" if step.every is not None else ""
    if step.source == "timed":
        with_it = f" ({quantities.duration(step.profiled)} with it)" if step.profiled and not brief else ""
        name = "" if brief and step.n > 1 else " steps" if step.n > 1 else " step"
        return f"{many}{name} without the profiler{with_it}{rare}"
    found_by, source = labels.STEPS_FOUND_BY, report.run.steps_source
    by = "" if source == "ProfilerStep" else f", found by {found_by.get(source, source)}"
    return f"{many} profiled {'steps' if step.n > 1 else 'step'}{by}{rare}"


def _around(step: StepTime, *, brief: bool) -> str:
    """What stands beside the mean: the median, the slow end, and the steps that are no part of it (the first never is)."""
    parts = [f"median {quantities.duration(step.median)}"] if step.n > 1 else []
    if step.n > 1 and step.p95 is not None:
        slow = "p95" if step.n >= ENOUGH_FOR_P95 else "longest"
        parts.append(f"{slow} {quantities.duration(step.p95)}")
    said = f"; {', '.join(parts)}" if parts else ""
    if brief and [(part.kind, part.count) for part in step.left_out] == [("warm-up", 1)]:
        return said
    left = [f"{part.count} {part.kind} ({quantities.duration(part.mean_s)})" for part in step.left_out]
    return f"{said}; left out: {', '.join(left)}" if left else said


def baseline(report: Report) -> str | None:
    """One sentence on the change since the baseline; None without a baseline."""
    base, step = report.baseline, report.step_time_s
    if base is None or step is None or not base.step_time_s.stated:
        return None
    change = quantities.signed_percent(step.stated / base.step_time_s.stated - 1)
    text = f"step {quantities.duration(base.step_time_s.stated)} -> {quantities.duration(step.stated)} ({change})"
    if base.mfu is not None and report.mfu.value is not None:
        text += f", MFU {quantities.points(report.mfu.value - base.mfu)}"
    return text


def buckets(report: Report, *, empty: bool = False) -> list[BucketRow]:
    """Rows of the step time breakdown with shares that sum to exactly 100.0. `empty`: also those without time."""
    split = report.breakdown
    values = [float(getattr(split, name)) for name in BUCKETS]
    parts = columns.apportion(values, 1000)
    notes = {"communication": "not overlapped", "memory_copy": "not overlapped"}
    if report.bound and any(values):
        notes[BUCKET_OF.get(report.bound, "")] = report.bound
    rows = zip(BUCKETS, values, parts, strict=True)
    return [BucketRow(BUCKET_LABELS[n], v, p, notes.get(n, "") if v > 0 else "") for n, v, p in rows if v > 0 or empty]


def idle_causes(report: Report) -> list[tuple[str, float]]:
    """Keys of the causes of idle time with their seconds, largest first, without empty ones."""
    ranked = sorted(report.breakdown.idle_causes.items(), key=lambda item: -item[1])
    return [(name, value) for name, value in ranked if value > 0]


def kernels_overlap(report: Report) -> bool:
    """Whether the kernels of a step take longer than the step together, which only kernels at the same time can."""
    return sum(row.share for row in report.kernels) > 1 + SAME


def per(report: Report) -> str:
    """What savings are parts of."""
    return "in all" if report.run.steps_source == "whole trace" else "a step"


def saving(report: Report, diagnosis: Diagnosis, dash: str = "-") -> str:
    """The predicted saving, with its range where that is wide; of a fix that raises the throughput, by how much."""
    found, gain = diagnosis.saving, diagnosis.throughput_gain
    if found is None:
        return "no estimate" if gain is None else f"{quantities.percent_range(gain, gain)} faster"
    if not report.savings_are_shares:
        return time_saved(found, dash)
    return f"{found.about or 'about'} {quantities.share(found.mid, report.step_s)}"


def sure(diagnosis: Diagnosis) -> str:
    """How the amount of a saving is known; empty where nothing is predicted."""
    return diagnosis.sure if diagnosis.saving is not None or diagnosis.throughput_gain is not None else ""


def time_saved(found: Saving, dash: str = "-") -> str:
    """The best estimate of a saving, with the range where it is wide: about 30 ms (5.7-67)."""
    return parts.estimate(found.ends, found.mid, found.whole_s, about=found.about, dash=dash)


def decided_by(report: Report, diagnosis: Diagnosis) -> str:
    """What decides between the ends of a wide saving: "67 ms if the step can be a CUDA graph; 5.7 ms if it only fuses"."""
    found, ends = diagnosis.saving, diagnosis.decides
    if found is None or ends is None or found.ends is None or not found.is_wide:
        return ""
    whole = report.step_s
    low, high = (
        quantities.share(end, whole) if report.savings_are_shares else parts.part_alone(end, whole)
        for end in found.ends
    )
    return f"{high} if {ends.high}; {low} if {ends.low}"


def mfu_after(diagnosis: Diagnosis, dash: str = "-") -> str:
    """The MFU after the fix; empty if it is not known, and of a question, which changes nothing."""
    found = diagnosis.saving
    if diagnosis.is_question or found is None or found.mfu_low is None or found.mfu_high is None:
        return ""
    return quantities.percent_range(found.mfu_low, found.mfu_high, dash=dash)


def remarks(diagnosis: Diagnosis) -> str:
    """The line under a fix: its detail, and findings with the same cause. What it risks stands where nothing is cut."""
    parts = [diagnosis.detail.rstrip(".")] if diagnosis.detail else []
    if diagnosis.explains:
        parts.append(f"same cause: {', '.join(diagnosis.explains)}")
    return "; ".join(parts)


def replay_error(report: Report) -> str | None:
    """The simulated step of the unchanged run against the measured one, as one phrase."""
    error = report.replay.error
    return None if error is None else f"replay error {quantities.signed_percent(error)}"


def footnote(report: Report) -> str | None:
    """What the star at MFU* means; None without a star."""
    if not report.device.peak_measured:
        return None
    return "* The peak was measured on this machine. Do not compare with an MFU that uses a datasheet peak."


def unmeasured(report: Report) -> list[tuple[list[str], str]]:
    """Rules without a result, grouped by reason: first those that were not measured, then those that crashed."""
    groups: dict[str, list[str]] = {}
    for found in report.diagnoses:
        if found.status == NOT_MEASURED:
            groups.setdefault(found.reason or "no reason was recorded", []).append(found.rule)
    for found in report.diagnoses:
        if found.status == CRASHED:
            groups.setdefault(f"the rule crashed: {found.reason or found.summary}", []).append(found.rule)
    return [(rules, reason) for reason, rules in groups.items()]
