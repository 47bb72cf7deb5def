"""Activation checkpointing computes activations again in backward, although memory may be free.

What it measures
    Forward operators that run inside backward (recomputation), with everything that belongs to them (casts, activations,
    Python). Their time, and the memory that remained free.

Why it costs
    Checkpointing needs about a third more computation and less memory. If there is enough memory, it only costs time.

How the gain is predicted
    If the free memory is at least twice the size of the activations (at most the bytes that the recomputed operators read and
    write), they fit. Then low removes 75 % of the recomputation, mid and high remove all of it. Otherwise:
    Low: 25 % of the recomputation is removed.
    Mid: 50 % is removed.
    High: all of it is removed.
    You must try how much fits into memory. If less than 10 % of the memory is free, the fix is not recommended.

How to fix
    Checkpoint every other block, or only attention. Keep more activations until the memory is used.

When it is wrong
    The rule is wrong if the larger batch that checkpointing allows is worth more than the saved time. An autograd.Function of the
    program that differentiates inside of its backward (the adjoint method, reversible layers) is no checkpoint and not judged.

References
    Chen et al., Training deep nets with sublinear memory cost, 2016; Korthikanti et al., selective recomputation, MLSys
    2023.
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.attribution import device_ns, first_place, scaled, without_host, work_in
from mfu_doctor.analysis.evidence.backward import node_calls
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, Steady, steady_of
from mfu_doctor.analysis.names.autograd import FORMULA_NODE, NODE
from mfu_doctor.analysis.names.vocabulary import ids_matching, rows_matching
from mfu_doctor.analysis.replay.edits import Change, Edit
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.counted_ops import RECOMPUTE
from mfu_doctor.arrays.distinct import distinct, without
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.quantities import share, size_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.trace import Category
from mfu_doctor.units import seconds

# Free memory below this share of the device is needed as reserve; checkpointing is then what makes the model fit.
RESERVE = 0.10
# Share of the recomputation that free memory can replace: if the activations are known to fit, and if that is unknown.
_FITTING = (0.75, 1.0, 1.0)
_DROPPED = (0.25, 0.5, 1.0)
_SPARE = 2.0  # their longer lifetime keeps other tensors as well, so they must fit this many times
_CHECKPOINT = re.compile("checkpoint", re.IGNORECASE)  # of torch, and of libraries with one of their own
_KNOWN = 0.8  # share of the recomputation's time whose traffic must be known to say how large the activations are


@rule(
    "needless-recompute",
    "ME003",
    "activations are computed twice",
    needs=(Need.SHAPES,),
    also=("activation-checkpointing", "recomputation"),
)
def needless_recompute(run: Run) -> Outcome:
    """Judge activation checkpointing against the memory that is free."""
    where = _recomputing(run)
    if not where.count:
        return None
    steady = steady_of(run)
    mask = work_in(run, where)
    spent = device_ns(run, steady, mask)
    if spent <= 0:
        return None
    free, needed = _free_share(run), _activations(run, steady, mask)
    available = _free_bytes(run)
    fits = needed is not None and available is not None and available >= _SPARE * needed
    ops = run.launches.op[mask & steady.entries(run)]
    host = without_host(run, where)

    def dropped(part: float) -> tuple[Edit, ...]:
        return (*scaled(run, mask, 1.0 - part), *(host if part == 1.0 else ()))

    return Finding(
        summary=f"Recomputing activations takes {steady.share(spent)} of the step",
        fix=_ALL if fits else _HALF,
        detail=_detail(run, free) if needed is None or available is None else _room(needed, available),
        decides=Ends(low="only a part of them fits", high="all activations fit into memory"),
        change=Change(*(dropped(part) for part in (_FITTING if fits else _DROPPED))),
        evidence=(
            shown("recomputation", seconds(spent), "s"),
            *((shown("free memory", free, "share"),) if free is not None else ()),
        ),
        place=first_place(run, ops[ops >= 0]),
        confidence="modelled" if free is not None or fits else "hint",
        withhold=f"only {share(free, 1.0)} of the memory is free, so checkpointing is needed"
        if free is not None and free < RESERVE
        else None,
    )


# The trainers' names for it stand beside the call, because there the call is not in the program.
_ALL = "x = block(x)  # not checkpoint(block, x), nor gradient_checkpointing=True: all activations fit into memory"
_HALF = "for i, block in enumerate(blocks): x = checkpoint(block, x, use_reentrant=False) if i % 2 else block(x)"


def _recomputing(run: Run) -> Intervals:
    """Host time of recomputation: from the start of the backward node that asks for it to the last forward operator in it.

    What is not a matmul (casts, activations, the checkpoint's own Python) would not run either, so it counts. Forward operators
    carry the number of the node that they make; those of the gradient itself carry none. In compiled code none does, and both are
    mixed: there it is the matmuls alone.
    """
    ops, events = run.flops.ops, run.trace.events
    top = ops.row[ops.phase == RECOMPUTE].astype(np.int64)
    node = _node_of(run, top)
    methods = _own_methods(run, distinct(node[node >= 0]))
    top, node = top[~np.isin(node, methods)], node[~np.isin(node, methods)]
    nodes = distinct(node[node >= 0])
    host = run.trace.rows(Category.CPU_OP)
    forward = host[(events.sequence[host] >= 0) & np.isin(run.ops.parent[host], nodes)]
    forward = without(forward, node_calls(run, forward))
    last = dict(zip(nodes.tolist(), events.start[nodes].tolist(), strict=True))
    for row in forward.tolist():
        parent = int(run.ops.parent[row])
        last[parent] = max(last[parent], int(events.end[row]))
    numbered = np.isin(node, np.unique(run.ops.parent[forward]))
    outside = top[~numbered]
    start = np.concatenate((events.start[nodes], events.start[outside]))
    return union(start, np.concatenate((np.array([last[n] for n in nodes.tolist()], np.int64), events.end[outside])))


def _node_of(run: Run, rows: Rows) -> Rows:
    """Row of the innermost node of the autograd graph around each operator, -1 without one."""
    named = np.append(run.trace.named(ids_matching(run.trace, NODE)), False)
    up = run.ops.parent[rows].astype(np.int64)
    while (climbing := (up >= 0) & ~named[up]).any():
        up[climbing] = run.ops.parent[up[climbing]]
    return up


def _own_methods(run: Run, nodes: Rows) -> Rows:
    """Those of these nodes that differentiate within themselves and are no checkpoint's: an adjoint, a reversible layer.

    A checkpoint that is not reentrant computes again in whatever node needs it first, and differentiates outside of it.
    """
    known = np.concatenate([rows_matching(run.trace, pattern, nodes) for pattern in (FORMULA_NODE, _CHECKPOINT)])
    calls = node_calls(run, run.trace.rows(Category.CPU_OP))
    return np.intersect1d(without(nodes, known), _node_of(run, calls))


def _free_share(run: Run) -> float | None:
    memory = run.facts.memory if run.facts else None
    if memory is None or not memory.total_bytes or memory.reserved_peak_bytes is None:
        return None
    return 1.0 - memory.reserved_peak_bytes / memory.total_bytes


def _free_bytes(run: Run) -> float | None:
    """Memory that remained free: of the device, or in a CPU-only run of the machine."""
    facts = run.facts
    if facts is None:
        return None
    if run.is_cpu:
        return facts.host.memory_available_bytes if facts.host is not None else None
    memory = facts.memory
    if memory is None or not memory.total_bytes or memory.reserved_peak_bytes is None:
        return None
    return float(memory.total_bytes - memory.reserved_peak_bytes)


def _activations(run: Run, steady: Steady, mask: Mask) -> float | None:
    """Most bytes per step that keeping the activations can take; None if too few shapes are known.

    What the recomputed operators read and write includes all that they would keep. Wrappers (views, autograd's nodes) touch none.
    """
    mask = mask & steady.entries(run) & ~run.kernels.is_kind("other")
    moved, length = run.least_bytes[mask], (run.activity.end - run.activity.start)[mask]
    known = ~np.isnan(moved)
    if float(length[known].sum()) < _KNOWN * float(length.sum()):
        return None
    return steady.per_step(float(moved[known].sum()))


def _room(needed: float, available: float) -> str:
    return f"keeping the activations needs at most {size_of(needed)}; {size_of(available)} of memory remained free"


def _detail(run: Run, free: float | None) -> str:
    total = next((d.memory_bytes for d in run.trace.devices if d.index == run.activity.device), None)
    if free is not None:
        return f"{share(free, 1.0)} of the GPU memory was never used"
    return "free memory was not recorded" + (f"; the device has {size_of(total)}" if total else "")
