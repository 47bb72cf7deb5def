"""The optimizer in a step: its implementation (single-tensor, foreach, fused), its device work, and its least memory traffic.

An optimizer is memory-bound: at best it reads parameters, gradients and state once, and writes parameters and state once.
"""

from __future__ import annotations

import re
from math import prod

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, Steady
from mfu_doctor.analysis.names.optimizers import optimizer_class
from mfu_doctor.analysis.names.vocabulary import ids_matching, rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.arrays.distinct import numbered_together
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.trace import Category

SINGLE, FOREACH, FUSED = "single-tensor", "foreach", "fused"
# A compiled step is fused as well.
_FUSED = re.compile(r"^aten::_fused_|FusedAdam|fused_adam|fused_sgd|lamb|^triton_", re.IGNORECASE)
_FOREACH = re.compile(r"^aten::_foreach_|multi_tensor_apply")
# Passes over the parameters of one fused step: reads of parameter, gradient and state, writes of parameter and state.
_PASSES = {"Adam": 7, "AdamW": 7, "NAdam": 7, "RAdam": 7, "Adamax": 7, "SGD": 3, "RMSprop": 5, "Adagrad": 5, "Lion": 5}
_MOMENTUM_PASSES = 5  # SGD with a momentum buffer
_DEFAULT_PASSES = 7
_FLOAT_BYTES = 4  # parameters and state of mixed-precision training are kept in fp32
# Operators that a single-tensor step calls at least once for each parameter.
# Some it calls several times for each (weight decay, momentum, update), so the rarest of them counts the tensors.
_CALLS_PER_TENSOR = 4
_PER_TENSOR = re.compile(
    r"^aten::(addcdiv_|lerp_|addcmul_|add_|mul_|_foreach_(addcdiv_|lerp_|addcmul_|add_|mul_)|_fused_\w+)$"
)


class Optimizer(Struct, frozen=True):
    """The optimizer of the steady steps.

    Attributes:
        name: class of the optimizer ("AdamW"), None if the span does not say.
        style: single-tensor, foreach or fused.
        spans: its own time on the host, in its steps without their closures.
        rows: device rows (on a CPU: operators) of its work.
        group: index of the span that issued each.
        entries: mask of its entries in the activity table, all steps.
        launches: device operations per step.
        tensors: parameter tensors, None if unknown.
        bytes: least traffic of one step in bytes, None if the number of elements is unknown.
    """

    name: str | None
    style: str
    spans: Intervals
    rows: Rows
    group: Rows
    entries: Mask
    launches: float
    tensors: int | None
    bytes: float | None


def optimizer_of(run: Run, steady: Steady) -> Optimizer | None:
    """The optimizer of a run, or None if no optimizer step is marked or it did no work."""
    marks, spans = run.optimizer_steps.marks, run.optimizer_steps.own
    if not len(marks):
        return None
    events = run.trace.events
    op = run.launches.op
    issued = np.where(op >= 0, events.start[np.maximum(op, 0)], -1)
    entries = spans.contains(issued) & (run.activity.kind == COMPUTE)
    if not entries.any():
        return None
    rows, first = np.unique(run.activity.row[entries], return_index=True)
    group = np.searchsorted(spans.start, issued[entries][first], side="right").astype(np.int64) - 1
    host = run.trace.rows(Category.CPU_OP)
    host = host[spans.contains(events.start[host])]
    name = optimizer_class(run.trace.name_of(int(marks[0])))
    elements, tensors = _size(run, host, len(marks))
    known = int((entries & steady.entries(run)).sum())
    return Optimizer(
        name=name,
        style=_style(run, host, rows),
        spans=spans,
        rows=rows,
        group=group,
        entries=entries,
        launches=steady.per_step(known),
        tensors=tensors,
        bytes=None if elements is None else float(elements) * _FLOAT_BYTES * _passes(run, name, host),
    )


def _style(run: Run, host: Rows, rows: Rows) -> str:
    """How the optimizer walks its parameters; on a CPU a foreach operator falls back to one operator per tensor."""
    both = np.concatenate((host, rows))
    ids = run.trace.events.name[both]
    if np.isin(ids, ids_matching(run.trace, _FUSED)).any():
        return FUSED
    return FOREACH if np.isin(ids, ids_matching(run.trace, _FOREACH)).any() else SINGLE


def _passes(run: Run, name: str | None, host: Rows) -> int:
    if name == "SGD":
        momentum = {"aten::mul_", "aten::_foreach_mul_"} & {run.trace.name_of(r) for r in host.tolist()}
        return _MOMENTUM_PASSES if momentum else _PASSES["SGD"]
    return _PASSES.get(name or "", _DEFAULT_PASSES)


def _size(run: Run, host: Rows, steps: int) -> tuple[int | None, int | None]:
    """Elements and tensors that the optimizer updates: from the capture, else from recorded shapes."""
    facts = run.facts.optimizers if run.facts else ()
    if facts and all(o.elements for o in facts):
        return sum(o.elements or 0 for o in facts), sum(o.parameters or 0 for o in facts) or None
    totals: dict[str, list[int]] = {}
    rows = rows_matching(run.trace, _PER_TENSOR, host)
    first, which = numbered_together(run.trace.events.name[rows], run.trace.events.args[rows])  # many rows, few shapes
    for row, times in zip(rows[first].tolist(), np.bincount(which).tolist(), strict=True):
        args = run.trace.args_of(row)
        if args is None or not args.dims:
            continue
        shapes = _tensors(args.dims[0])
        found = totals.setdefault(run.trace.name_of(row), [0, 0])
        found[0] += times * sum(prod(s) for s in shapes)
        found[1] += times * len(shapes)
    if not totals:
        return None, None
    most = max(tensors for _, tensors in totals.values())
    tensors, elements = min((t, e) for e, t in totals.values() if t * _CALLS_PER_TENSOR >= most)
    return elements // steps or None, tensors // steps or None


def _tensors(dims: tuple[int, ...] | tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    """Shapes in one argument: a tensor's, or those of a list of tensors."""
    many = [d for d in dims if isinstance(d, tuple)]
    return many or [tuple(d for d in dims if isinstance(d, int))]
