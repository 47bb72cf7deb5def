"""What a result is: one `Report` object that every screen, gate and file is a pure function of (schema 1).

Seconds are floats, FLOP are floats, shares are fractions of the step; the unit is in the field's name. A value that is not
known is None and a neighbouring `reason` says why. Nothing is on any screen that is not in this object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median, median_low

from mfu_doctor.facts import DeviceSamples

SCHEMA = 1

BUCKETS = ("compute", "communication", "memory_copy", "data_loading", "idle")
IDLE_CAUSES = ("launch", "sync", "allocator", "compile", "gc", "python", "rank_wait", "queue", "other")

FAILED = "failed"
PASSED = "passed"
NOT_MEASURED = "not measured"
WITHHELD = "withheld"
CRASHED = "crashed"
STATUSES = (FAILED, PASSED, NOT_MEASURED, WITHHELD, CRASHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Where the numbers come from."""

    trace: str
    captured: bool = False  # True: recorded by mfu-doctor, with facts
    site: str | None = None
    rank: int | None = None
    world_size: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    steps_source: str = "ProfilerStep"  # ProfilerStep, optimizer, periodicity, whole trace
    steps_note: str | None = None
    steps: int = 0  # steps judged
    skip: int | None = None
    timed: int | None = None
    warmup: int | None = None
    active: int | None = None
    settings: dict[str, str | int | float | bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """The accelerator (or CPU) that the step ran on, and the peak that MFU is measured against."""

    name: str | None = None
    kind: str = "gpu"  # gpu or cpu
    count: int = 1
    dtype: str | None = None  # dtype of the peak
    peak_flops: float | None = None  # dense FLOP/s for `dtype`
    peak_source: str | None = None
    peak_reason: str | None = None  # why there is no peak, with the flag that gives one
    peak_measured: bool = False  # measured on this machine: MFU is then MFU* and never mixed with datasheet MFU
    sms: int | None = None
    memory_bytes: int | None = None
    bandwidth_bytes_s: float | None = None
    peaks: dict[str, float] = field(default_factory=dict)  # all dense peaks, dtype -> FLOP/s


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Wall time of one optimizer step in seconds."""

    median: float  # see median_step
    mad: float = 0.0  # median absolute deviation
    n: int = 1
    source: str = "trace"  # timed (un-profiled steps) or trace (profiled steps)
    profiled_median: float | None = None
    mean: float | None = None  # what savings are of, where a few steps take much longer than the median one; else None
    samples: tuple[float, ...] = ()


TIMED, RECORDED = "timed", "trace"  # sources of a step time


def median_step(samples: Sequence[float], source: str) -> float:
    """The median of these step times, in seconds: what `report` states is what `check` and `compare` judge.

    Of un-profiled steps the median. Of recorded steps the lower median: one that exists, because its split, its MFU and its
    drawing stand beside it and must be of the step that is stated.

    Args:
        samples: step times, not empty.
        source: `TIMED` or `RECORDED`.
    """
    return median(samples) if source == TIMED else median_low(samples)


def step_time_of(samples: Sequence[float], source: str, profiled: float | None = None) -> StepTime:
    """The step time of a run.

    Args:
        samples: step times in seconds, not empty.
        source: `TIMED` or `RECORDED`.
        profiled: the same step with the profiler, where un-profiled ones were timed.
    """
    middle = median_step(samples, source)
    return StepTime(
        median=middle,
        mad=median(abs(s - middle) for s in samples),
        n=len(samples),
        source=source,
        profiled_median=profiled,
        samples=tuple(samples),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """The same run under another well-known formula, for comparison only."""

    name: str
    flops: float
    mfu: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mfu:
    """Model FLOPs utilization (PaLM, appendix B): model FLOP/s over the dense peak; recompute excluded."""

    value: float | None = None
    upper: float | None = None  # upper end where coverage is partial
    hfu: float | None = None  # hardware FLOPs utilization: recompute counted
    causal: float | None = None  # counting only unmasked attention pairs
    by_dtype: float | None = None  # each FLOP against the peak of the dtype its kernel ran in
    model_flops: float | None = None  # FLOP per step
    causal_flops: float | None = None
    recompute_flops: float | None = None
    forward_flops: float | None = None
    backward_flops: float | None = None
    achieved_flops_s: float | None = None  # FLOP/s
    method: str | None = None  # counted, given, formula
    coverage: float | None = None  # share of matmul-like device time with counted FLOPs
    reason: str | None = None  # why value is None
    notes: tuple[str, ...] = ()
    conventions: tuple[Convention, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """The exclusive split of the median step, in seconds; the five buckets sum to `step_s`, idle's causes to `idle`."""

    step_s: float = 0.0
    compute: float = 0.0
    communication: float = 0.0
    memory_copy: float = 0.0
    data_loading: float = 0.0
    idle: float = 0.0
    idle_causes: dict[str, float] = field(default_factory=dict)

    def share(self, bucket: str) -> float:
        """A bucket's fraction of the step."""
        value: float = getattr(self, bucket)
        return value / self.step_s if self.step_s else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of the waterfall from peak to MFU: seconds of the step, and whether it is measured or modelled."""

    name: str
    seconds: float
    group: str  # achieved, recompute, matmul, other kernels, communication, memory copy, data loading, idle
    basis: str = "measured"  # measured or modelled


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One recorded step."""

    number: int
    start_s: float
    split: Breakdown
    steady: bool = True  # judged
    left_out: str | None = None  # why it is not: warm-up, disturbed; None also in reports from before this was kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A drawn rectangle of the median step: `kind` is a bucket, an idle cause, a host activity or a kernel class."""

    lane: int
    start_s: float
    end_s: float
    kind: str
    label: str = ""
    count: int = 1  # events merged into this block
    busy_s: float | None = None  # time covered inside the block; None: all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One step drawn: lanes (host threads first, then streams) and their blocks, aggregated to a bounded number."""

    step: int
    step_s: float
    lanes: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One number that a finding rests on."""

    name: str
    value: float | int | str
    unit: str = ""  # s, share, count, bytes, FLOP, ...
    place: str | None = None  # file:line or event name


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """Seconds per step that a fix would save, predicted by replay; and the step and MFU after it."""

    low: float
    mid: float
    high: float
    step_low_s: float | None = None  # predicted step at the low end of the saving
    step_high_s: float | None = None
    mfu_low: float | None = None
    mfu_high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What one rule said about this run."""

    rule: str
    code: str
    status: str  # one of STATUSES
    summary: str = ""  # one sentence
    reason: str | None = None  # not measured: why and which flag would; withheld: the number; crashed: the error
    fix: str | None = None  # pasteable
    detail: str | None = None  # one more sentence under the fix
    effort: str | None = None  # setting, line, refactor
    risk: str | None = None  # none, rounding, convergence
    confidence: str | None = None  # measured, modelled, hint
    saving: Saving | None = None
    throughput_gain: float | None = None  # for spare-memory: relative samples/s, not step time
    evidence: tuple[Evidence, ...] = ()
    place: str | None = None  # the user's file:line where known
    explains: tuple[str, ...] = ()  # rules folded under this one
    explained_by: str | None = None
    caution: bool = False  # TR rules: no saving, printed under Caution


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStep:
    """The step after this fix and all before it, re-replayed (savings are never summed)."""

    rule: str
    step_s: float
    saving_s: float  # against the step before this fix
    mfu: float | None = None
    pays_after: str | None = None  # the fix without which this one would not pay; None where it pays alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Fixes in greedy order and where it stops."""

    steps: tuple[PlanStep, ...] = ()
    saving_low_s: float = 0.0
    saving_high_s: float = 0.0
    mfu_low: float | None = None
    mfu_high: float | None = None
    roofline_s: float | None = None  # the step if every kernel ran at its roofline and nothing else cost time
    stop: str | None = None  # sentence: where the plan stops and why
    at_floor: bool = False  # the plan ends at the shortest step that is predicted at all; `stop` says which
    notes: tuple[str, ...] = ()  # fixes that could not be replayed after the others


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayInfo:
    """How well the unchanged replay reproduces the measured steps."""

    error: float | None = None  # signed, relative; None on a CPU-only run, whose replay is exact by construction
    predicted_s: float | None = None
    measured_s: float | None = None
    trusted: bool = False
    reason: str | None = None  # why predictions are widened or withheld


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRow:
    """Kernels (or, on a CPU, ops) of one name, per step."""

    name: str
    kind: str  # matmul, attention, convolution, elementwise, reduction, normalization, optimizer, copy, communication, ...
    seconds: float  # device time per step
    share: float  # of the step
    count: float  # launches per step
    dtype: str | None = None
    flops: float | None = None  # FLOP per step
    achieved_flops_s: float | None = None
    bytes: float | None = None  # minimal traffic per step
    intensity: float | None = None  # FLOP per byte
    peak_share: float | None = None  # achieved over the peak of its dtype
    op: str | None = None  # the operator that launched most of its time


@dataclass(frozen=True, slots=True, kw_only=True)
class OpRow:
    """Operators of one name, per step: time on the host, time of the kernels they launched."""

    name: str
    host_s: float
    device_s: float
    count: float
    flops: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The report that this one was judged against."""

    trace: str
    step_time_s: StepTime
    mfu: float | None = None
    breakdown: Breakdown = field(default_factory=Breakdown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a diagnosis: everything that any screen, gate or file shows."""

    schema: int = SCHEMA
    tool: str = "mfu-doctor"
    version: str = ""
    created: str = ""  # ISO 8601, UTC
    run: RunInfo
    device: DeviceInfo = field(default_factory=DeviceInfo)
    step_time_s: StepTime | None = None
    mfu: Mfu = field(default_factory=Mfu)
    breakdown: Breakdown = field(default_factory=Breakdown)
    waterfall: tuple[Bar, ...] = ()
    waterfall_note: str | None = None
    bound: str | None = None  # input-bound, host-bound, communication-bound, compute-bound, copy-bound
    steps: tuple[StepRow, ...] = ()
    drawing: Drawing | None = None
    diagnoses: tuple[Diagnosis, ...] = ()
    plan: Plan = field(default_factory=Plan)
    replay: ReplayInfo = field(default_factory=ReplayInfo)
    kernels: tuple[KernelRow, ...] = ()
    ops: tuple[OpRow, ...] = ()
    modules: tuple[OpRow, ...] = ()
    samples: tuple[DeviceSamples, ...] = ()
    structure: dict[str, float] = field(default_factory=dict)  # deterministic counts per step: launches, syncs, ...
    places: dict[str, tuple[str, ...]] = field(default_factory=dict)  # e.g. "syncs" -> ("train.py:41", ...)
    baseline: Baseline | None = None
    problems: tuple[str, ...] = ()  # what was wrong with the file
    cautions: tuple[str, ...] = ()

    def with_status(self, status: str) -> tuple[Diagnosis, ...]:
        """Diagnoses of one status, in report order (failed ones ranked by the low end of their saving)."""
        return tuple(d for d in self.diagnoses if d.status == status and not d.caution)

    @property
    def failed(self) -> tuple[Diagnosis, ...]:
        """Findings that are not folded under another, best first."""
        return tuple(d for d in self.with_status(FAILED) if d.explained_by is None)

    @property
    def passed(self) -> tuple[Diagnosis, ...]:
        """Rules that looked and found nothing."""
        return self.with_status(PASSED)

    @property
    def not_measured(self) -> tuple[Diagnosis, ...]:
        """Rules that could not judge, each with its reason."""
        return self.with_status(NOT_MEASURED)

    @property
    def withheld(self) -> tuple[Diagnosis, ...]:
        """Advice that would save (almost) nothing here, each with its number."""
        return self.with_status(WITHHELD)

    def diagnosis(self, rule: str) -> Diagnosis | None:
        """What the rule of this name said, or None if it was not run."""
        return next((d for d in self.diagnoses if d.rule == rule), None)

    def metrics(self) -> dict[str, float]:
        """Flat scalars for W&B, TensorBoard or MLflow; unknown values are left out."""
        out: dict[str, float | None] = {
            "mfu_doctor/mfu": self.mfu.value,
            "mfu_doctor/hfu": self.mfu.hfu,
            "mfu_doctor/step_time_s": self.step_time_s.median if self.step_time_s else None,
        }
        if self.breakdown.step_s:
            out |= {f"mfu_doctor/share/{name}": self.breakdown.share(name) for name in BUCKETS}
        out |= {f"mfu_doctor/saving_s/{d.rule}": d.saving.low for d in self.failed if d.saving}
        return {name: float(value) for name, value in out.items() if value is not None}
