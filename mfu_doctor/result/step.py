"""What a step is: how long it takes, where its time goes, and what ran in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median, median_low

BUCKETS = ("compute", "communication", "memory_copy", "data_loading", "idle")
IDLE_CAUSES = ("launch", "host_compute", "sync", "allocator", "compile", "gc", "python", "rank_wait", "queue", "other")

TIMED, RECORDED = "timed", "trace"  # sources of a step time


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Wall time of one optimizer step in seconds."""

    median: float  # see median_step
    mad: float = 0.0  # median absolute deviation
    n: int = 1
    source: str = "trace"  # timed (un-profiled steps) or trace (profiled steps)
    profiled_median: float | None = None
    mean: float | None = None  # what savings are of, if a few steps take much longer than the median one; else None
    samples: tuple[float, ...] = ()


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
        profiled: the same step with the profiler, if un-profiled ones were timed.
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
class KernelRow:
    """Kernels (or, on a CPU, ops) of one name, per step."""

    name: str
    kind: str  # matmul, attention, convolution, elementwise, reduction, normalization, optimizer, copy, communication, ...
    seconds: float  # device time per step
    share: float  # of the step
    count: float  # device operations per step
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
