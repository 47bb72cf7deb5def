"""Metadata that only profile() can record, written into the trace file under the key `mfu_doctor` and read back with it.

Every field is optional and None means "not captured". Only named fields are written (an allow-list): never the
environment, never argument values. Times are unix nanoseconds so that they line up with the trace's clock.
"""

from __future__ import annotations

from msgspec import Struct

from mfu_doctor.facts.core_turns import CoreTurns
from mfu_doctor.facts.garbage import GcPause
from mfu_doctor.facts.user_functions import UserFunction
from mfu_doctor.facts.wasted_work import (
    ConstantResult,
    IgnoredTargets,
    KeptScores,
    PaddedInput,
    RepeatedCall,
    RepeatedGradient,
    SparseOperand,
    UnusedGradients,
)
from mfu_doctor.facts.whole_run import StepCourse, WholeRun

FACTS_KEY = "mfu_doctor"
FACTS_VERSION = 1

PARTIAL = ".partial"
"""After the name of a trace: the file that says how far the recording is, until the trace is written."""


class Window(Struct, frozen=True, kw_only=True):
    """One recorded profiler window inside the file; `kind` is "timing" (light options) or "shapes" (shapes and stacks)."""

    kind: str
    start_ns: int
    end_ns: int
    steps: int


TOO_LARGE = "a step has about"
"""In the note of a recording with fewer steps than asked for, because steps have too many events."""


class Schedule(Struct, frozen=True, kw_only=True):
    """Phases in steps: as asked for and as they really happened."""

    skip: int
    timed: int
    warmup: int
    active: int
    shapes: int = 1
    at_step: int | None = None  # the first recorded step as asked for, from 0; None: as soon as the others have passed


class LoaderFacts(Struct, frozen=True, kw_only=True):
    """A DataLoader the run iterated; from the iterator's own attributes."""

    class_name: str
    num_workers: int
    pin_memory: bool | None = None
    persistent_workers: bool | None = None
    prefetch_factor: int | None = None
    batch_size: int | None = None
    fetches: int = 0
    begun: int | None = None  # iterators of one loader that these fetches were of; None: not counted
    length: int | None = None  # batches of an iterator, where it tells
    wait_s: float | None = None  # median seconds the main thread waited per fetch, un-profiled steps
    cpu_s: float | None = None  # median CPU seconds of the main thread per fetch, un-profiled steps
    ready_share: float | None = None  # un-profiled fetches for which workers had a batch ready; None without workers
    ready_wait_s: float | None = None  # median seconds of these fetches: taking a batch costs it
    first_wait_s: float | None = None  # first fetch: workers starting
    sample_place: str | None = None  # "train.py:41": where the user's code that makes a sample begins


class OptimizerFacts(Struct, frozen=True, kw_only=True):
    """An optimizer that stepped."""

    class_name: str
    fused: bool | None = None
    foreach: bool | None = None
    capturable: bool | None = None
    parameters: int | None = None  # tensors
    elements: int | None = None
    dtypes: tuple[str, ...] = ()
    device_types: tuple[str, ...] = ()
    module: str | None = None  # where its class is defined: "torch.optim.adamw", "__main__"
    options: tuple[str, ...] | None = None  # those of "foreach" and "fused" that its constructor takes
    per_step: float | None = None  # steps of it in a training step; None: one, or not known
    sparse_gradients: bool | None = None  # whether a gradient was sparse when it stepped first


class GraphDepths(Struct, frozen=True, kw_only=True):
    """How nodes of autograd lie in the graphs of the recorded steps."""

    sequence: tuple[int, ...] = ()  # autograd's number, as in the trace
    depth: tuple[int, ...] = ()  # the longest way to a leaf, in nodes
    inputs: tuple[int, ...] = ()  # how many of its inputs get a gradient


class PrecisionFacts(Struct, frozen=True, kw_only=True):
    """Precision settings in force during the recorded steps."""

    float32_matmul_precision: str | None = None
    matmul_tf32: bool | None = None
    cudnn_tf32: bool | None = None
    autocast_dtype: str | None = None  # dtype of autocast where it was on during a forward pass
    fp16_accumulation: bool | None = None
    cudnn_benchmark: bool | None = None
    deterministic: bool | None = None
    onednn: bool | None = None  # whether it may be used; None where torch was built without it
    cudnn: bool | None = None
    anomaly_mode: bool | None = None
    inference_mode: bool | None = None
    default_dtype: str | None = None  # of tensors that a program makes without naming one
    dispatch_modes: tuple[str, ...] | None = None  # classes of the modes in Python that operators pass, outermost first


class CompileFacts(Struct, frozen=True, kw_only=True):
    """torch.compile as seen from Dynamo's own counters over the block."""

    compiled_modules: int = 0
    unique_graphs: int | None = None
    graph_breaks: int | None = None
    recompiles: int | None = None


class MemoryFacts(Struct, frozen=True, kw_only=True):
    """Allocator statistics of the device in use, over the block."""

    total_bytes: int | None = None
    allocated_peak_bytes: int | None = None
    reserved_peak_bytes: int | None = None
    alloc_retries: int | None = None
    ooms: int | None = None
    device_allocs: int | None = None
    device_frees: int | None = None


class HostFacts(Struct, frozen=True, kw_only=True):
    """The machine as this process may use it."""

    cpu: str | None = None
    cores: int | None = None  # logical cores of the machine
    affinity: int | None = None  # cores this process may run on
    cgroup_cpus: float | None = None  # quota of the container, in cores
    torch_threads: int | None = None
    interop_threads: int | None = None
    load_average: float | None = None  # 1-minute, at the end of the block
    cpu_share: float | None = None  # process CPU seconds / wall seconds over the timed steps
    worker_cpu_share: float | None = None  # CPU seconds of descendants (workers) / wall seconds, if /proc shows it
    loader_cpu_share: float | None = None  # CPU seconds of the DataLoader workers among them / wall seconds
    other_cpu_share: float | None = None  # CPU seconds of other processes / wall seconds, if /proc shows it
    stolen_cpu_share: float | None = None  # seconds that other virtual machines had this one's cores / wall seconds
    throttled_share: float | None = None  # seconds that the container's quota stopped its threads / wall seconds
    turns: CoreTurns | None = None  # None: the system does not tell how long threads wait for a core
    shares_s: float | None = None  # wall seconds that the shares are of
    disk_read_bytes_s: float | None = None  # from storage, by this process and its descendants, if /proc shows it
    loading_read_bytes_s: float | None = None  # by calls that read, of the loader's workers, else of this process
    memory_available_bytes: int | None = None  # what the machine could still give at the end of the block
    system: str | None = None

    @property
    def usable_cores(self) -> float | None:
        """Cores that this process may use: the least of machine, affinity and quota; None if none of them is known."""
        known = (self.cores, self.affinity, self.cgroup_cpus)
        return min((float(cores) for cores in known if cores), default=None)

    @property
    def other_cores(self) -> float | None:
        """Cores of these that other processes had, at least: the rest of the machine may have held that much of them."""
        usable = self.usable_cores
        if usable is None or self.other_cpu_share is None:
            return None
        return max(self.other_cpu_share - ((self.cores or usable) - usable), 0.0)


class FrameSample(Struct, frozen=True, kw_only=True):
    """Where the main thread (or that of a worker) was, in the user's own code, at one moment."""

    time_ns: int
    place: str  # "train.py:41"
    library: str | None = None  # package that ran for this line ("torch", "json"); None: the line itself, or unknown
    cpu_ns: int | None = None  # CPU time of the thread so far
    call: str | None = None  # function of a library that this line called: "numpy.read_array"; None: none, or unknown
    within: tuple[
        UserFunction, ...
    ] = ()  # the innermost functions that it was in, innermost first, inside of a DataLoader


class DeviceSamples(Struct, frozen=True, kw_only=True):
    """NVML (and GPM) readings of one device; every list has the length of `time_ns`, None if not measured."""

    device: str  # UUID or index
    name: str | None = None
    time_ns: tuple[int, ...] = ()
    util_gpu: tuple[float | None, ...] = ()  # percent
    util_memory: tuple[float | None, ...] = ()  # percent
    sm_mhz: tuple[float | None, ...] = ()
    memory_mhz: tuple[float | None, ...] = ()
    power_w: tuple[float | None, ...] = ()
    temperature_c: tuple[float | None, ...] = ()
    memory_used_bytes: tuple[float | None, ...] = ()
    event_reasons: tuple[int | None, ...] = ()  # NVML clocks event reasons bit mask
    sm_active: tuple[float | None, ...] = ()  # GPM, percent
    tensor_active: tuple[float | None, ...] = ()  # GPM, percent
    dram_active: tuple[float | None, ...] = ()  # GPM, percent
    pcie_rx_bytes: tuple[float | None, ...] = ()  # cumulative
    pcie_tx_bytes: tuple[float | None, ...] = ()
    max_sm_mhz: float | None = None
    power_limit_w: float | None = None
    default_power_limit_w: float | None = None
    memory_total_bytes: int | None = None
    pcie_gen: int | None = None
    pcie_gen_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    throttle_s: tuple[tuple[str, float], ...] = ()  # reason, seconds throttled over the block (counters)
    processes: int | None = None  # processes computing on the device
    driver: str | None = None
    status: str = "stopped"  # unavailable, no-devices, stopped, hung, failed, all-devices-lost
    notes: tuple[str, ...] = ()


class GivenNumbers(Struct, frozen=True, kw_only=True):
    """Numbers that the user gave to profile() and that therefore win."""

    model_flops: float | None = None  # FLOP per step
    peak_flops: float | None = None  # FLOP/s


class MeasuredPeak(Struct, frozen=True, kw_only=True):
    """A GEMM peak measured on this machine (accounting: CPU peaks are measured, never guessed)."""

    dtype: str
    flops: float  # FLOP/s
    threads: int
    how: str
    bandwidth_bytes_s: float | None = None  # a copy that no cache holds, bytes read and written per second


class Facts(Struct, frozen=True, kw_only=True):
    """Everything capture wrote beside Kineto's events."""

    version: int = FACTS_VERSION
    tool_version: str | None = None
    site: str | None = None  # "train.py:41": where profile() was written
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    versions: tuple[tuple[str, str], ...] = ()  # ("torch", "2.13.0"), ("python", ...), ("cuda", ...)
    step_source: str | None = None  # optimizer, step(), fetch, block
    asked: Schedule | None = None
    recorded: Schedule | None = None
    timed_steps_s: tuple[float, ...] = ()  # un-profiled steps that stand for the run, in their order: see `whole_run`
    timed_waits_s: tuple[float, ...] = ()  # of each of these, how long it waited for its batches; empty: not measured
    beside_steps_s: tuple[float, ...] = ()  # un-profiled steps just before the recorded ones
    whole_run: WholeRun | None = None  # what the block did with its wall time
    course: StepCourse | None = None  # how its steps changed as it went on
    profiled_steps_s: tuple[float, ...] = ()  # the same, inside the timing window
    after_steps_s: tuple[float, ...] = ()  # un-profiled, after the windows (does the profiler linger?)
    micro_batches: float | None = None  # fetches per update of the optimizer that steps most often
    batch_shape: tuple[int, ...] | None = None  # of its first tensor
    batch_elements: int | None = None  # numbers in all of its tensors; None: it holds something else besides
    windows: tuple[Window, ...] = ()
    precision: PrecisionFacts | None = None
    loaders: tuple[LoaderFacts, ...] = ()
    optimizers: tuple[OptimizerFacts, ...] = ()
    repeated_calls: tuple[RepeatedCall, ...] | None = None  # None: not watched
    repeated_gradients: tuple[RepeatedGradient, ...] | None = None  # None: not watched
    unused_gradients: tuple[UnusedGradients, ...] | None = None  # None: the graphs of the recorded steps were not read
    graph_depths: GraphDepths | None = None  # None: the graphs of the recorded steps were not read
    ignored_targets: tuple[IgnoredTargets, ...] | None = None  # None: no classification loss was counted
    constant_results: tuple[ConstantResult, ...] | None = None  # None: no results of functions were compared
    sparse_operands: tuple[SparseOperand, ...] | None = None  # None: no constant operand of a product was counted
    kept_scores: tuple[KeptScores, ...] | None = None  # None: no mask before a softmax was counted
    padded: tuple[PaddedInput, ...] | None = None  # what the model reads first; None: it was not looked at
    parameter_elements: int | None = None
    parameter_dtypes: tuple[str, ...] = ()
    compile: CompileFacts | None = None
    memory: MemoryFacts | None = None
    host: HostFacts | None = None
    gc_pauses: tuple[GcPause, ...] = ()
    frames: tuple[FrameSample, ...] = ()
    worker_frames: tuple[FrameSample, ...] = ()  # of the loader's worker processes while they loaded
    given: GivenNumbers | None = None
    measured_peaks: tuple[MeasuredPeak, ...] = ()
    samples: tuple[DeviceSamples, ...] = ()
    sampler_status: str | None = None
    notes: tuple[str, ...] = ()  # what could not be captured, and why

    @property
    def beside_s(self) -> tuple[float, ...]:
        """Un-profiled steps just before the recorded ones; files of before they were kept apart have only one kind."""
        return self.beside_steps_s or self.timed_steps_s
