"""Optimizer state is in CPU memory. Each step copies the state, or gradients and parameters, between CPU and GPU.

What it measures
    Copies of at least 16 MiB per step in each direction, with sizes that occur in every analysed step. Copies inside
    Optimizer.step always count (state is copied to the GPU, updated, and copied back). If the optimizer runs on the CPU, copies
    outside Optimizer.step count as well (gradients to the CPU, parameters to the GPU). It runs on the CPU if Optimizer.step
    launches no kernel or its name is that of a CPU optimizer.

Why it costs
    PCIe has about 1 % of the bandwidth of GPU memory. The optimizer cannot start before its state is on the GPU, and the next
    forward pass cannot start before the parameters are back.

How the gain is predicted
    Low: the copies take half of their time, as if half of the state remained offloaded.
    Mid: the copies take no GPU time, but the CPU still waits at the same places.
    High: the copies take no GPU time, and the waits directly after them and inside Optimizer.step are removed.
    The CPU time of the update does not change, although it would become shorter: its time on the GPU is unknown. Copies that
    overlap with compute save nothing.

How to fix
    "offload_optimizer": {"device": "none"} or the next lower ZeRO stage in DeepSpeed, cpu_offload=None in FSDP. If the state
    almost fits, offload only a part ("ratio" in DeepSpeed).

When it is wrong
    The rule is wrong if the model fits only because of the offload. If mfu_doctor.profile() recorded the memory use, and the
    state cannot fit, the fix is not recommended. If that is not certain, the finding is a rough estimate. The size of the state
    is estimated from the copies. For a CPU optimizer the parameters, and each of its moments, are as large as the smaller
    direction. The upper limit is six times that (gradients copied in 2 bytes, the rest stored in 4, as ZeRO counts). If the
    optimizer runs on the CPU, offloaded activations, caches, and large predictions that each step copies to the CPU look the same
    as state. A copy counts as batch if it comes after loading a batch and before the first kernel: a batch that is prefetched
    later counts as state. If a recorded step is a micro-batch without the optimizer, the rule sees nothing.

References
    Rajbhandari et al., ZeRO, SC 2020; Ren et al., ZeRO-Offload, USENIX ATC 2021;
    https://www.deepspeed.ai/docs/config-json/#optimizer-offloading
"""

from __future__ import annotations

import re

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.copies import Copies, copies_matching
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, Steady, steady_of
from mfu_doctor.analysis.names.optimizers import optimizer_class
from mfu_doctor.analysis.names.vocabulary import TO_DEVICE, TO_HOST, ids_matching, rows_matching
from mfu_doctor.analysis.replay.edits import AsyncCopies, Change, DropWaits, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COPY
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.quantities import size_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.trace import Category
from mfu_doctor.units import seconds

# DeepSpeed's and torchao's optimizers that update on the host, by class, operator or extension.
_HOST_OPTIMIZER = re.compile(r"cpu_?(adam|adagrad|lion|offload_?optimizer)", re.IGNORECASE)
_DEEPSPEED = re.compile(r"deepspeed", re.IGNORECASE)
# The fp32 gradients of 4 million parameters: more than a loop reads back for logging, and 1.3 ms of PCIe 3.0 x16.
LEAST_BYTES = 16 * 2**20
# Smaller copies cost only latency: losses, counters and flags.
_LEAST_COPY = 64 * 1024
# Share of the kernels whose launch must be known to say that the optimizer launches none.
_LINKED = 0.99
# Memory that may be filled; the rest is for fragmentation and the context.
USABLE_SHARE = 0.9
# Moments that an optimizer keeps for each parameter, at least.
_MOMENTS = {"SGD": 0, "RMSprop": 1, "Adagrad": 1, "DeepSpeedCPUAdagrad": 1, "Lion": 1, "DeepSpeedCPULion": 1}
_ADAM_MOMENTS = 2
# Gradients in 2 bytes each, parameter and two moments in 4: 12 bytes kept for 2 that move (ZeRO, section 3.1).
_MOST_KEPT = 6


class _Optimizer(Struct, frozen=True):
    """The optimizer's steps on the host, its class if the span names it, and whether it updates on the host."""

    spans: Intervals
    name: str | None
    is_deepspeed: bool
    on_host: bool


class _Moved(Struct, frozen=True):
    """The copies of state of the whole run, and bytes per steady step in each direction."""

    up: Copies
    down: Copies
    up_bytes: float
    down_bytes: float

    @property
    def entry(self) -> Rows:
        """Entries of the activity table of both directions."""
        return np.concatenate((self.up.entry, self.down.entry))

    @property
    def largest(self) -> Copies:
        """The largest copy to the host."""
        return self.down.only(np.arange(len(self.down.size)) == np.argmax(self.down.size))


@rule(
    "offloaded-state",
    "ME005",
    "optimizer state is copied between CPU and GPU",
    needs=(Need.DEVICE,),
    also=("zero-offload", "cpu-offload"),
)
def offloaded_state(run: Run) -> Outcome:
    """Judge what moves between host and device for the optimizer."""
    steady = steady_of(run)
    up = copies_matching(run, TO_DEVICE, _LEAST_COPY)
    down = copies_matching(run, TO_HOST, _LEAST_COPY)
    if min(_bytes(run, steady, up), _bytes(run, steady, down)) < LEAST_BYTES:
        return None
    optimizer = _optimizer(run, steady)
    if optimizer is None:
        return None
    moved = _moved(run, steady, optimizer, (up, down))
    if min(moved.up_bytes, moved.down_bytes) < LEAST_BYTES:
        return None
    exposed = _exposed_ns(run, steady, moved)
    needed, free = _needed(moved, optimizer), _free_bytes(run)
    return Finding(
        summary=f"GPU waits {steady.share(exposed)} of the step for copies: {_what(moved, optimizer)} per step",
        fix=_fix(optimizer, needed[0]),
        detail=_room(needed, free),
        decides=Ends(low="half of it stays offloaded", high="all of the state fits, and nothing waits for it"),
        change=_change(run, moved, optimizer),
        evidence=(
            shown("to the host", moved.down_bytes, "bytes per step"),
            shown("to the device", moved.up_bytes, "bytes per step"),
            shown("GPU waits for copies", seconds(exposed), "s"),
            shown("minimum memory for the state", needed[0], "bytes"),
            *((shown("free memory", free, "bytes"),) if free is not None else ()),
        ),
        place=run.places(moved.largest.issuer(run))[0],
        effort="setting",
        confidence="modelled" if free is not None and free >= needed[1] else "hint",
        withhold=f"the state needs at least {size_of(needed[0])}, but only {size_of(max(free, 0.0))} of memory can still be used"
        if free is not None and free < needed[0]
        else None,
    )


def _what(moved: _Moved, optimizer: _Optimizer) -> str:
    down, up = size_of(moved.down_bytes), size_of(moved.up_bytes)
    if optimizer.on_host:
        return f"{down} of gradients to the CPU and {up} of parameters back"
    return f"{up} of optimizer state to the GPU and {down} back to the CPU"


def _bytes(run: Run, steady: Steady, copies: Copies) -> float:
    """Bytes per steady step."""
    return steady.per_step(float(copies.size[steady.entries(run)[copies.entry]].sum()))


def _optimizer(run: Run, steady: Steady) -> _Optimizer | None:
    """Where the optimizer steps and runs; None if the trace marks no step of it."""
    trace, hosts = run.trace, run.trace.rows(Category.ANNOTATION, Category.CPU_OP)
    marks = run.optimizer_steps.marks
    named = rows_matching(trace, _HOST_OPTIMIZER, hosts)
    if not len(marks) and not len(named):
        return None
    spans = run.optimizer_steps.own | union(trace.events.start[named], trace.events.end[named])
    launched = _issued(run)[(run.activity.kind != COPY) & steady.entries(run)]
    told = float((launched >= 0).sum()) >= _LINKED * len(launched)
    on_host = len(named) > 0 or (told and not spans.contains(launched).any())
    name = optimizer_class(trace.name_of(int(marks[0]))) if len(marks) else None
    return _Optimizer(spans, name, len(ids_matching(trace, _DEEPSPEED)) > 0, on_host)


def _issued(run: Run) -> Rows:
    """When the operator (else the launch call) of each entry began, -1 if the trace does not contain it; shape (n,)."""
    op, call, start = run.launches.op, run.launches.call, run.trace.events.start
    return np.where(op >= 0, start[np.maximum(op, 0)], np.where(call >= 0, start[np.maximum(call, 0)], -1))


def _moved(run: Run, steady: Steady, optimizer: _Optimizer, both: tuple[Copies, Copies]) -> _Moved:
    """Those copies to the device and to the host that carry state."""
    issued = _issued(run)
    kept = []
    for copies, batches in zip(both, (True, False), strict=True):
        at = issued[copies.entry]
        mine = optimizer.spans.contains(at)
        if optimizer.on_host:
            mine |= (at >= 0) & ~(_of_batch(run, optimizer, at) if batches else np.zeros(len(at), np.bool_))
        kept.append(_recurring(run, steady, copies.only(mine)))
    up, down = kept
    return _Moved(up, down, _bytes(run, steady, up), _bytes(run, steady, down))


def _of_batch(run: Run, optimizer: _Optimizer, at: Rows) -> Mask:
    """Whether copies issued at these times carry a batch: no kernel and no optimizer step since the last fetch or step mark."""
    work = _issued(run)[run.activity.kind != COPY]
    begins = np.concatenate((run.host.fetch.end, run.steps.host_start))
    return _latest(begins, at) >= _latest(np.concatenate((work, optimizer.spans.end)), at)


def _latest(times: Rows, at: Rows) -> Rows:
    """The last of `times` up to each moment, -1 if there is none."""
    ordered = np.concatenate((np.array([-1], np.int64), np.sort(times[times >= 0])))
    return ordered[np.searchsorted(ordered, at, side="right") - 1]


def _recurring(run: Run, steady: Steady, copies: Copies) -> Copies:
    """Those of a size that every steady step copies: state has the same size in each step."""
    sizes, which = np.unique(copies.size, return_inverse=True)
    start = run.activity.start[copies.entry]
    step = np.searchsorted(run.steps.start, start, side="right") - 1
    judged = steady.entries(run)[copies.entry]
    judged &= run.steps.steady[np.maximum(step, 0)] & (step >= 0)
    of_each = distinct(which[judged] * len(run.steps.start) + step[judged]) // len(run.steps.start)
    always = np.bincount(of_each, minlength=len(sizes)) == steady.count
    return copies.only(always[which])


def _exposed_ns(run: Run, steady: Steady, moved: _Moved) -> float:
    """Time per steady step in which the device does nothing but these copies, in nanoseconds."""
    copying = union(run.activity.start[moved.entry], run.activity.end[moved.entry])
    return steady.per_step(float((copying & run.breakdown.owners["memory_copy"] & steady.device).total_ns))


def _change(run: Run, moved: _Moved, optimizer: _Optimizer) -> Change:
    rows = run.activity.row[moved.entry]

    def scaled(factor: float) -> ScaleDevice:
        return ScaleDevice(rows, np.full(len(rows), factor))

    unblocked = (AsyncCopies(rows, np.zeros(len(rows), np.int64)), DropWaits(_waits(run, moved, optimizer)))
    return Change((scaled(0.5),), (scaled(0.0),), unblocked)


def _waits(run: Run, moved: _Moved, optimizer: _Optimizer) -> Rows:
    """Blocking calls in the optimizer's step, and those before which a copy of state was the last thing issued."""
    blocking = run.host.blocking_rows
    at = run.trace.events.start[blocking]
    known = np.flatnonzero(run.launches.call >= 0)
    begun = run.trace.events.start[run.launches.call[known]]
    order = np.argsort(begun, kind="stable")
    last = np.searchsorted(begun[order], at, side="right") - 1
    after = np.isin(known[order][np.maximum(last, 0)], moved.entry) & (last >= 0)
    return blocking[optimizer.spans.contains(at) | after]


def _needed(moved: _Moved, optimizer: _Optimizer) -> tuple[float, float]:
    """Bytes that must fit on the device instead: at least, and at most."""
    if not optimizer.on_host:  # copied to the device, updated and copied back: that is the state itself
        carried = max(moved.up_bytes, moved.down_bytes)
        return carried, carried
    carried = min(moved.up_bytes, moved.down_bytes)
    return carried * (1 + _MOMENTS.get(optimizer.name or "", _ADAM_MOMENTS)), carried * _MOST_KEPT


def _free_bytes(run: Run) -> float | None:
    """Memory of the device that may still be used; None if it was not recorded."""
    memory = run.facts.memory if run.facts is not None else None
    if memory is None or not memory.total_bytes or memory.reserved_peak_bytes is None:
        return None
    return USABLE_SHARE * memory.total_bytes - memory.reserved_peak_bytes


def _fix(optimizer: _Optimizer, needed: float) -> str:
    keep = f"# keep {size_of(needed)} of optimizer state on the GPU: "
    if not optimizer.on_host:
        return keep + 'no .to("cpu") of optimizer.state in the step'
    deepspeed = 'offload_optimizer={"device": "none"}'
    return keep + (deepspeed if optimizer.is_deepspeed else f"{deepspeed} / FullyShardedDataParallel(cpu_offload=None)")


def _room(needed: tuple[float, float], free: float | None) -> str:
    least, most = needed
    fits = size_of(least) if least == most else f"{size_of(least)} to {size_of(most)}"
    if free is None:
        return f"the state needs {fits} of GPU memory; free memory was not recorded"
    return f"the state needs {fits} of GPU memory; {size_of(max(free, 0.0))} can still be used"
