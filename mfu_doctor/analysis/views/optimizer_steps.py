"""The optimizer's own time: its step events without the forward and backward passes that a closure runs inside them.

`optimizer.step(closure)` (Lightning always, LBFGS, many examples) computes the loss and its gradients inside the event of the
step. This work is recognized by what autograd leaves in a trace. Backward consists of nodes. An operator that runs while
gradients are recorded has a sequence number; the optimizer updates its parameters under `no_grad`, so its operators have none.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.optimizers import SEARCHES, TORCH_OPTIMIZERS, TorchOptimizer, optimizer_class
from mfu_doctor.analysis.names.vocabulary import OPTIMIZER_MARK, ids_matching, rows_matching
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.analysis.views.nesting import OpTree
from mfu_doctor.arrays.distinct import without
from mfu_doctor.arrays.intervals import EMPTY, Intervals, union
from mfu_doctor.trace import Category, Trace

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_RESET = re.compile(r"^Optimizer\.zero_grad#")
_NORM = re.compile(r"^aten::(linalg_vector_norm|norm|frobenius_norm|_foreach_norm)$")
_SCALE = re.compile(r"^aten::(_foreach_mul_|mul_)$")
_CLAMP = re.compile(r"^aten::(_foreach_)?clamp(_min|_max)?_$")


class OptimizerSteps(Struct, frozen=True):
    """The optimizer steps of a trace.

    Attributes:
        marks: rows of the step events, in time order, shape (k,).
        own: time of these events without that of their closures.
        closures: time inside them in which a closure ran.
    """

    marks: Rows
    own: Intervals
    closures: Intervals


class _Children(Struct, frozen=True):
    """What a step event calls directly, in time order: rows, and which of them belong to a closure for certain."""

    row: Rows
    start: Rows
    end: Rows
    of_closure: Mask


def optimizer_steps(trace: Trace, ops: OpTree) -> OptimizerSteps:
    """Find the optimizer steps, and what closures do in them."""
    hosts = trace.rows(Category.ANNOTATION, Category.CPU_OP)
    marks = rows_matching(trace, OPTIMIZER_MARK, hosts)
    if not len(marks):
        return OptimizerSteps(marks, EMPTY, EMPTY)
    start, end = trace.events.start, trace.events.end
    nodes = rows_matching(trace, NODE_CALL, trace.rows(Category.CPU_OP))
    outer = marks[~_inside(trace, ops, marks, OPTIMIZER_MARK) & ~_inside(trace, ops, marks, NODE_CALL)]
    first, last = np.searchsorted(start[nodes], start[outer]), np.searchsorted(start[nodes], end[outer])
    stretches = [
        stretch
        for mark, a, b in zip(outer.tolist(), first.tolist(), last.tolist(), strict=True)
        if b > a
        for stretch in _closures(trace, ops, mark, nodes[a:b])
    ]
    closures = _intervals(stretches)
    return OptimizerSteps(marks, union(start[marks], end[marks]) - closures, closures)


def _closures(trace: Trace, ops: OpTree, mark: int, nodes: Rows) -> list[tuple[int, int]]:
    """Start and end of each call of the closure in one step event; `nodes` are the nodes of backward inside it."""
    name = optimizer_class(trace.name_of(mark)) or ""
    known = TORCH_OPTIMIZERS.get(name)
    children = _children(trace, ops, mark, nodes)
    begin, finish = int(trace.events.start[mark]), int(trace.events.end[mark])
    node_start, node_end = trace.events.start[nodes], np.minimum(trace.events.end[nodes], finish)
    is_node = np.isin(trace.events.name[children.row], ids_matching(trace, NODE_CALL))
    forward = children.start[children.of_closure & ~is_node]
    if known is not None and name != SEARCHES:  # these call the closure once, before all else
        return [(begin, _trailing(trace, children, int(node_end.max()), known))]
    found: list[tuple[int, int]] = []
    number = np.searchsorted(forward, node_start)  # two nodes with a forward operator between them are of two passes
    for _, mine in groups(number):
        after = found[-1][1] if found else begin
        opened = forward[(forward >= after) & (forward <= node_start[mine][0])]
        at = int(opened.min()) if len(opened) else int(node_start[mine][0])
        if not found and (known is not None or not (~children.of_closure & (children.start < at)).any()):
            at = begin
        found.append((at, _trailing(trace, children, int(node_end[mine].max()), known)))
    return found


def _children(trace: Trace, ops: OpTree, mark: int, nodes: Rows) -> _Children:
    """Operators and events directly in a step event; those of a closure are nodes, resets, and what records gradients."""
    events = trace.events
    lo, hi = np.searchsorted(events.start, [events.start[mark], events.end[mark]])
    inside = np.arange(lo, hi)
    inside = inside[np.isin(events.category[inside], (Category.CPU_OP, Category.ANNOTATION))]
    row = inside[ops.parent[inside] == mark].astype(np.int64)
    recording = inside[(events.sequence[inside] >= 0) & (events.track[inside] == events.track[mark])]
    plain = without(recording, nodes)
    at = np.searchsorted(events.start[plain], events.start[row])
    ends = np.searchsorted(events.start[plain], events.end[row])
    records = (events.sequence[row] >= 0) | ((events.category[row] == Category.ANNOTATION) & (ends > at))
    told = np.isin(events.name[row], np.concatenate((ids_matching(trace, _RESET), ids_matching(trace, NODE_CALL))))
    # the step of another optimizer in this one (SAM) is the optimizer's
    nested = np.isin(events.name[row], ids_matching(trace, OPTIMIZER_MARK))
    return _Children(row, events.start[row], events.end[row], (records | told) & ~nested)


def _trailing(trace: Trace, children: _Children, end: int, known: TorchOptimizer | None) -> int:
    """End of a closure whose backward pass ends at `end`: metrics may follow, and Lightning clips the gradients here.

    An optimizer from outside torch.optim may update with gradients recorded, so what follows counts as its own.
    """
    if known is None:
        return end
    later = np.flatnonzero(children.start >= end)
    own = later[~children.of_closure[later]]
    before = later[: int(np.searchsorted(later, own[0]))] if len(own) else later
    end = max(end, int(children.end[before].max(initial=end)))
    if not len(own):
        return end
    names = trace.events.name[children.row[own]]
    clipped = -1
    norms = np.flatnonzero(np.isin(names, ids_matching(trace, _NORM)))
    if len(norms) and not known.own_norms:
        scaled = np.isin(names, ids_matching(trace, _SCALE))
        clipped = _end_of_run(scaled, int(norms[-1]))
    elif not known.own_clamps:
        clipped = _end_of_run(np.isin(names, ids_matching(trace, _CLAMP)), -1, at_once=True)
    return end if clipped < 0 else max(end, int(children.end[own[clipped]]))


def _end_of_run(wanted: Mask, after: int, *, at_once: bool = False) -> int:
    """Last index of the first run of `wanted` after an index, or -1; with `at_once` the run must begin right there."""
    later = np.flatnonzero(wanted[after + 1 :])
    if not len(later) or (at_once and later[0] > 0):
        return -1
    gaps = np.flatnonzero(np.diff(later) > 1)
    return after + 1 + int(later[gaps[0]] if len(gaps) else later[-1])


def _inside(trace: Trace, ops: OpTree, rows: Rows, pattern: re.Pattern[str]) -> Mask:
    """Whether an event with such a name encloses each row on its thread."""
    named = np.zeros(len(trace.names) + 1, np.bool_)
    named[ids_matching(trace, pattern)] = True
    found = np.zeros(len(rows), np.bool_)
    up = ops.parent[rows].astype(np.int64)
    while (up >= 0).any():
        found |= (up >= 0) & named[trace.events.name[np.maximum(up, 0)]]
        up = np.where(up >= 0, ops.parent[np.maximum(up, 0)], -1)
    return found


def _intervals(stretches: list[tuple[int, int]]) -> Intervals:
    if not stretches:
        return EMPTY
    start, end = np.array(stretches, np.int64).T
    return union(start, end)
