"""The run of a report: the source of its numbers, its device, how much of the device it uses, and the error of its replay."""

from __future__ import annotations

from msgspec import Struct, field


class RunInfo(Struct, frozen=True, kw_only=True):
    """Where the numbers come from."""

    trace: str
    captured: bool = False  # True: recorded by mfu-doctor, with facts
    site: str | None = None
    rank: int | None = None
    world_size: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    steps_source: str = "ProfilerStep"  # ProfilerStep, optimizer, periodicity, whole trace
    steps_note: str | None = None
    steps: int = 0  # analysed steps
    skip: int | None = None
    timed: int | None = None
    warmup: int | None = None
    active: int | None = None
    settings: dict[str, str | int | float | bool | None] = field(default_factory=dict)


class DeviceInfo(Struct, frozen=True, kw_only=True):
    """The accelerator (or CPU) that the step ran on, and the peak that MFU is measured against."""

    name: str | None = None
    kind: str = "gpu"  # gpu or cpu
    count: int = 1
    dtype: str | None = None  # dtype of the peak
    matrix_unit: str | None = (
        None  # what reaches this peak: "tensor-core", "matrix-core"; None: the usual units, or not known
    )
    peak_flops: float | None = None  # dense FLOP/s for `dtype`
    peak_source: str | None = None
    peak_reason: str | None = None  # why there is no peak, with the flag that gives one
    peak_measured: bool = False  # measured on this machine: MFU is then MFU* and never mixed with datasheet MFU
    sms: int | None = None
    memory_bytes: int | None = None
    bandwidth_bytes_s: float | None = None
    peaks: dict[str, float] = field(default_factory=dict)  # all dense peaks, dtype -> FLOP/s
    unseen: str | None = None  # why the trace has nothing of this GPU: nothing is then known about its work


class ReplayInfo(Struct, frozen=True, kw_only=True):
    """How well the unchanged replay reproduces the measured steps."""

    error: float | None = None  # signed, relative; None on a CPU-only run, whose replay is exact by construction
    predicted_s: float | None = None
    measured_s: float | None = None
    trusted: bool = False
    reason: str | None = None  # why predictions are widened or withheld


class Convention(Struct, frozen=True, kw_only=True):
    """The same run under another well-known formula, for comparison only."""

    name: str
    flops: float
    mfu: float | None = None


class Mfu(Struct, frozen=True, kw_only=True):
    """Model FLOPs utilization (PaLM, appendix B): model FLOP/s over the dense peak; recompute excluded."""

    value: float | None = None
    upper: float | None = None  # upper end if coverage is partial
    calculated: float | None = (
        None  # what was calculated if it is not stated as `value`: above 100 %, or one end of a wide interval
    )
    hfu: float | None = None  # hardware FLOPs utilization: recompute counted
    causal: float | None = None  # counting only unmasked attention pairs
    by_dtype: float | None = None  # each FLOP against the peak of the dtype its kernel ran in
    computes_in: tuple[str, ...] = ()  # these dtypes, the one with most FLOPs first
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
