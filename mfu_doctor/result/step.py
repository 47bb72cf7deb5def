"""What a step is: how long it takes, where its time goes, and what ran in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median, stdev

from msgspec import Struct, field

from mfu_doctor.facts.whole_run import LONG_STEP

BUCKETS = ("compute", "communication", "memory_copy", "data_loading", "idle")
IDLE_CAUSES = ("launch", "host_compute", "sync", "allocator", "compile", "gc", "python", "rank_wait", "queue", "other")

OTHER_KERNELS = "other kernels"  # the group of bars of a waterfall that has no matmuls

TIMED, RECORDED = "timed", "trace"  # sources of a step time

LONG = LONG_STEP
_P95 = 0.95


class LeftOut(Struct, frozen=True, kw_only=True):
    """Steps of one kind that are no part of the stated step."""

    kind: str  # warm-up or disturbed
    count: int
    mean_s: float


class StepTime(Struct, frozen=True, kw_only=True):
    """Wall time of an optimizer step in seconds. What a report states is `stated`: the throughput, not a typical step."""

    median: float
    mad: float = 0.0  # median absolute deviation
    n: int = 1
    source: str = "trace"  # timed (un-profiled steps) or trace (profiled steps)
    profiled_median: float | None = None  # of the steps with the profiler, if un-profiled ones were timed
    profiled_mean: float | None = None  # likewise; None also in reports of older versions
    mean: float | None = None  # work over wall time of all judged steps; None only in reports of older versions
    p95: float | None = None
    long: int = 0  # of the n: more than 1.5 times as long as the median one
    every: int | None = (
        None  # a long step comes every so many steps, and counts as that in the mean; None: each counts alike
    )
    left_out: tuple[LeftOut, ...] = ()
    samples: tuple[float, ...] = ()

    @property
    def stated(self) -> float:
        """The step that everything in a report is of: MFU, split, savings, checks."""
        return self.median if self.mean is None else self.mean

    @property
    def profiled(self) -> float | None:
        """The same with the profiler, if un-profiled steps were timed."""
        return self.profiled_median if self.profiled_mean is None else self.profiled_mean

    @property
    def spread(self) -> float:
        """How far `stated` may be from the mean of a longer run by chance.

        The standard error of the mean, and no less than the median absolute deviation: neighbouring steps are not independent.
        """
        if len(self.samples) < 2:
            return self.mad
        return max(stdev(self.samples) / math.sqrt(len(self.samples)), self.mad)


def mean_step(samples: Sequence[float]) -> float:
    """The step that these steps took on average: all of their wall time over their number, in seconds.

    Args:
        samples: step times, not empty.
    """
    return fmean(samples)


def step_time_of(samples: Sequence[float], source: str, *, mean: float | None = None) -> StepTime:
    """The step time of a run.

    Args:
        samples: step times in seconds, not empty.
        source: `TIMED` or `RECORDED`.
        mean: the mean step if it is of more than these samples.
    """
    middle, ordered = median(samples), sorted(samples)
    return StepTime(
        median=middle,
        mad=median(abs(s - middle) for s in samples),
        n=len(samples),
        source=source,
        mean=mean_step(samples) if mean is None else mean,
        p95=ordered[math.ceil(_P95 * len(ordered)) - 1],
        long=sum(s > LONG * middle for s in samples),
        samples=tuple(samples),
    )


class Breakdown(Struct, frozen=True, kw_only=True):
    """The exclusive split of a step (of a report: the mean one) in seconds; the buckets sum to `step_s`, the causes to `idle`."""

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


def mean_of(splits: Sequence[Breakdown]) -> Breakdown:
    """The split of the mean of these steps, or of this step over ranks; not empty."""
    causes = sorted({cause for one in splits for cause in one.idle_causes})
    return Breakdown(
        **{name: fmean(getattr(one, name) for one in splits) for name in ("step_s", *BUCKETS)},
        idle_causes={cause: fmean(one.idle_causes.get(cause, 0.0) for one in splits) for cause in causes},
    )


class Bar(Struct, frozen=True, kw_only=True):
    """One bar of the waterfall from peak to MFU: seconds of the step, and whether it is measured or modelled."""

    name: str
    seconds: float
    group: str  # achieved, recompute, matmul, other kernels, communication, memory copy, data loading, idle
    basis: str = "measured"  # measured or modelled


class StepRow(Struct, frozen=True, kw_only=True):
    """One recorded step."""

    number: int
    start_s: float
    split: Breakdown
    steady: bool = True  # judged
    left_out: str | None = None  # why it is not: warm-up, disturbed; None also in reports from before this was kept


class Block(Struct, frozen=True, kw_only=True):
    """A drawn rectangle of the median step: `kind` is a bucket, an idle cause, a host activity or a kernel class."""

    lane: int
    start_s: float
    end_s: float
    kind: str
    label: str = ""
    count: int = 1  # events merged into this block
    busy_s: float | None = None  # time covered inside the block; None: all of it


class Drawing(Struct, frozen=True, kw_only=True):
    """One step drawn: lanes (host threads first, then streams) and their blocks, aggregated to a bounded number."""

    step: int
    step_s: float
    lanes: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()


class KernelRow(Struct, frozen=True, kw_only=True):
    """Kernels (or, on a CPU, ops) of one name, per step."""

    name: str
    kind: str  # matmul, attention, convolution, elementwise, reduction, normalization, optimizer, copy, communication, ...
    seconds: float  # device time per step
    share: float  # of the step: the part in which any of them runs
    count: float  # device operations per step
    dtype: str | None = None
    flops: float | None = None  # FLOP per step
    achieved_flops_s: float | None = None
    bytes: float | None = None  # minimal traffic per step
    intensity: float | None = None  # FLOP per byte
    peak_share: float | None = None  # achieved over the peak of its dtype; above 1 only of convolutions
    op: str | None = None  # the operator that launched most of its time


class CodeLine(Struct, frozen=True, kw_only=True):
    """What the operators of one function of the user's code take on the device, per step, forward and backward."""

    place: str  # the function's first line, or the line itself where a capture saw it
    seconds: float
    share: float  # of the step
    flops: float | None = None
    peak_share: float | None = (
        None  # of the dense peak of the dtype that it computes in; None if FLOPs or peak are unknown
    )


class OpRow(Struct, frozen=True, kw_only=True):
    """Operators of one name, per step: time on the host, time of the kernels they launched."""

    name: str
    host_s: float
    device_s: float
    count: float
    flops: float | None = None
