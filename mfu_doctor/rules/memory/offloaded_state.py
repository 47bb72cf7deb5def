"""Optimizer state is kept on the host, and each step carries it, or its gradients and parameters, over the link.

What it measures
    Copies in both directions of at least 16 MiB a step each, of sizes that every steady step has: those issued inside the
    optimizer's step (state fetched, updated, put back), and where the optimizer runs on the host, i.e. its step launches no
    kernel or is a CPU optimizer by name, also those outside it (gradients down, parameters up).

Why it costs
    The link carries a hundredth of what device memory does, and the optimizer cannot start before its state is there, nor the
    next forward pass before the parameters are back.

How the gain is predicted
    Mid: these copies take no device time, and the host still waits where it did; low: half of that, as when half of the state
    stays offloaded; high: they take no time and the host waits neither right after them nor anywhere in the optimizer's step.
    The update's own time on the host stays as it is, although it would shrink too: what it takes on the device was not seen.
    Copies that hide behind computation save nothing.

How to fix
    "offload_optimizer": {"device": "none"} or the next lower ZeRO stage in DeepSpeed, cpu_offload=None in FSDP. Where the state
    nearly fits, offload a part only ("ratio" in DeepSpeed).

When it is wrong
    Offload is often what makes a model fit. With memory captured live the advice is withheld where the state certainly does not
    fit; else it is a hint. What must fit is estimated from what moved: with an optimizer on the host as many bytes for the
    parameter and for each of its moments as the smaller direction carries, at most six times as many (gradients copied in 2
    bytes, the rest in 4, as ZeRO counts). Offloaded activations and caches look the same as state where the optimizer runs on
    the host too, and so do large predictions that each step reads back. A batch is what is copied before the first kernel after
    a fetch: one that is prefetched later counts as state. Where a recorded step is a micro-batch without the optimizer,
    nothing is seen.

References
    Rajbhandari et al., ZeRO, SC 2020; Ren et al., ZeRO-Offload, USENIX ATC 2021;
    https://www.deepspeed.ai/docs/config-json/#optimizer-offloading
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mfu_doctor.analysis.evidence.copies import Copies, copies_matching
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, Steady, steady_of
from mfu_doctor.analysis.names.vocabulary import OPTIMIZER_MARK, TO_HOST, ids_matching, rows_matching
from mfu_doctor.analysis.replay.edits import AsyncCopies, Change, DropWaits, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COPY
from mfu_doctor.intervals import Intervals, union
from mfu_doctor.quantities import size_of
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.trace import Category
from mfu_doctor.units import seconds

_TO_DEVICE = re.compile(r"HtoD|Host -> Device")
# DeepSpeed's and torchao's optimizers that update on the host, by class, operator or extension.
_HOST_OPTIMIZER = re.compile(r"cpu_?(adam|adagrad|lion|offload_?optimizer)", re.IGNORECASE)
_DEEPSPEED = re.compile(r"deepspeed", re.IGNORECASE)
_CLASS = re.compile(r"^Optimizer\.step#(\w+)\.step")
# The fp32 gradients of 4 million parameters: more than a loop reads back for logging, and 1.3 ms of PCIe 3.0 x16.
LEAST_BYTES = 16 * 2**20
# Smaller copies are latency: losses, counters and flags.
_LEAST_COPY = 64 * 1024
# Share of the kernels whose launch must be known before "the optimizer launches none" can be said.
_LINKED = 0.99
# Memory that may be filled; the rest is for fragmentation and the context.
USABLE_SHARE = 0.9
# Moments that an optimizer surely keeps for each parameter.
_MOMENTS = {"SGD": 0, "RMSprop": 1, "Adagrad": 1, "DeepSpeedCPUAdagrad": 1, "Lion": 1, "DeepSpeedCPULion": 1}
_ADAM_MOMENTS = 2
# Gradients in 2 bytes each, parameter and two moments in 4: 12 bytes kept for 2 that move (ZeRO, section 3.1).
_MOST_KEPT = 6


@dataclass(frozen=True, slots=True)
class _Optimizer:
    """The optimizer's steps on the host, its class where the span tells, and whether it updates on the host."""

    spans: Intervals
    name: str | None
    is_deepspeed: bool
    on_host: bool


@dataclass(frozen=True, slots=True)
class _Moved:
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
    "optimizer state crosses the link each step",
    needs=(Need.DEVICE,),
    also=("zero-offload", "cpu-offload"),
)
def offloaded_state(run: Run) -> Outcome:
    """Judge what moves between host and device for the optimizer."""
    steady = steady_of(run)
    up = copies_matching(run, _TO_DEVICE, _LEAST_COPY)
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
        summary=f"{_what(moved, optimizer)} each step, exposed {steady.share(exposed)} of it",
        fix=_fix(optimizer, needed[0]),
        detail=_room(needed, free),
        change=_change(run, moved, optimizer),
        evidence=(
            shown("to the host", moved.down_bytes, "bytes per step"),
            shown("to the device", moved.up_bytes, "bytes per step"),
            shown("exposed", seconds(exposed), "s"),
            shown("must fit at least", needed[0], "bytes"),
            *((shown("free memory", free, "bytes"),) if free is not None else ()),
        ),
        place=run.places(moved.largest.issuer(run))[0],
        effort="setting",
        confidence="modelled" if free is not None and free >= needed[1] else "hint",
        withhold=f"the state takes at least {size_of(needed[0])} and {size_of(max(free, 0.0))} of the memory can still be used"
        if free is not None and free < needed[0]
        else None,
    )


def _what(moved: _Moved, optimizer: _Optimizer) -> str:
    down, up = size_of(moved.down_bytes), size_of(moved.up_bytes)
    if optimizer.on_host:
        return f"{down} of gradients go to the host's optimizer and {up} of parameters come back"
    return f"{up} of optimizer state come to the GPU and {down} go back to the host"


def _bytes(run: Run, steady: Steady, copies: Copies) -> float:
    """Bytes per steady step."""
    return steady.per_step(float(copies.size[steady.entries(run)[copies.entry]].sum()))


def _optimizer(run: Run, steady: Steady) -> _Optimizer | None:
    """Where the optimizer steps and runs; None where no step of it is marked."""
    trace, hosts = run.trace, run.trace.rows(Category.ANNOTATION, Category.CPU_OP)
    marks = rows_matching(trace, OPTIMIZER_MARK, hosts)
    named = rows_matching(trace, _HOST_OPTIMIZER, hosts)
    rows = np.union1d(marks, named).astype(np.int64)
    if not len(rows):
        return None
    spans = union(trace.events.start[rows], trace.events.end[rows])
    launched = _issued(run)[(run.activity.kind != COPY) & steady.entries(run)]
    told = float((launched >= 0).sum()) >= _LINKED * len(launched)
    on_host = len(named) > 0 or (told and not spans.contains(launched).any())
    match = _CLASS.match(trace.name_of(int(marks[0]))) if len(marks) else None
    return _Optimizer(spans, match.group(1) if match else None, len(ids_matching(trace, _DEEPSPEED)) > 0, on_host)


def _issued(run: Run) -> Rows:
    """When the operator (else the launch call) of each entry began, -1 where the trace does not say; shape (n,)."""
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
    """The last of `times` up to each moment, -1 where there is none."""
    ordered = np.concatenate((np.array([-1], np.int64), np.sort(times[times >= 0])))
    return ordered[np.searchsorted(ordered, at, side="right") - 1]


def _recurring(run: Run, steady: Steady, copies: Copies) -> Copies:
    """Those of a size that every steady step copies: state has the same size in each step."""
    sizes, which = np.unique(copies.size, return_inverse=True)
    start = run.activity.start[copies.entry]
    step = np.searchsorted(run.steps.start, start, side="right") - 1
    judged = steady.entries(run)[copies.entry]
    seen = np.zeros((len(run.steps.start), len(sizes)), np.bool_)
    seen[step[judged], which[judged]] = True
    always = seen[run.steps.steady].sum(axis=0) == steady.count
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
    if not optimizer.on_host:  # fetched, updated on the device and put back: that is the state itself
        carried = max(moved.up_bytes, moved.down_bytes)
        return carried, carried
    carried = min(moved.up_bytes, moved.down_bytes)
    return carried * (1 + _MOMENTS.get(optimizer.name or "", _ADAM_MOMENTS)), carried * _MOST_KEPT


def _free_bytes(run: Run) -> float | None:
    """Memory of the device that may still be used; None where it was not captured."""
    memory = run.facts.memory if run.facts is not None else None
    if memory is None or not memory.total_bytes or memory.reserved_peak_bytes is None:
        return None
    return USABLE_SHARE * memory.total_bytes - memory.reserved_peak_bytes


def _fix(optimizer: _Optimizer, needed: float) -> str:
    keep = f"# keep {size_of(needed)} of optimizer state on the device: "
    if not optimizer.on_host:
        return keep + 'no .to("cpu") of optimizer.state in the step'
    deepspeed = 'offload_optimizer={"device": "none"}'
    return keep + (deepspeed if optimizer.is_deepspeed else f"{deepspeed} / FullyShardedDataParallel(cpu_offload=None)")


def _room(needed: tuple[float, float], free: float | None) -> str:
    least, most = needed
    fits = f"{size_of(least)} must fit" if least == most else f"{size_of(least)} to {size_of(most)} must fit"
    if free is None:
        return f"{fits} on the device; whether that is free was not recorded"
    return f"{fits} on the device, where {size_of(max(free, 0.0))} can still be used"
