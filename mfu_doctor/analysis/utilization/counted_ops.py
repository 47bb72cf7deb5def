"""Which operator calls are counted, what each costs, and whether it belongs to forward, backward or recomputation.

Operators nest (`linear` > `addmm`, `conv2d` > `convolution` > `_convolution` > `cudnn_convolution`), so only leaves count:
calls with a known cost inside which no other call has one. Costs are computed once per distinct (name, arguments).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.names.autograd import FORMULA_NODE, NODE, NODE_CALL
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.utilization.compiled_recompute import compiled_recompute
from mfu_doctor.analysis.utilization.input_gradients import input_gradients
from mfu_doctor.analysis.views.nesting import OpTree
from mfu_doctor.arrays.distinct import distinct, numbered_together, places
from mfu_doctor.flops.convolution import GRADIENT_POSITION
from mfu_doctor.flops.op_flops import OpFlops
from mfu_doctor.flops.table import OF_SPARSE, SPARSE_PRODUCTS, TABLE
from mfu_doctor.flops.trace_arguments import (
    ASKS_FOR_INPUT,
    NEEDS_OUTPUT,
    NEEDS_PARENT,
    Surroundings,
    recorded_flops,
)
from mfu_doctor.trace import Category, Trace

Rows = npt.NDArray[np.int64]

FORWARD, BACKWARD, RECOMPUTE = 0, 1, 2
PHASES = ("forward", "backward", "recompute")

_UNKNOWN = -1  # no cost

# A recomputed operator that took less than this part of the fastest forward call with the same arguments did not run to its end.
STOPPED = 0.5


class CountedOps(Struct, frozen=True):
    """Counted operator calls in time order; arrays of shape (m,)."""

    row: Rows  # event row
    cost: npt.NDArray[np.int64]  # index into `costs`
    phase: npt.NDArray[np.uint8]  # FORWARD, BACKWARD or RECOMPUTE
    costs: tuple[OpFlops, ...]
    without_shapes: int  # calls that have a formula but whose arguments were not recorded or do not say

    def owners(self, tree: OpTree, rows: Rows) -> npt.NDArray[np.int64]:
        """For each operator row the index of the counted call that is or encloses it, -1 without one; shape of `rows`."""
        found, current = places(self.row, rows), rows.copy()
        while ((current >= 0) & (found < 0)).any():
            current = np.where((current >= 0) & (found < 0), tree.parent[current], -1)
            found = np.where(found < 0, places(self.row, current), found)
        return found

    def wrappers(self, tree: OpTree) -> npt.NDArray[np.bool_]:
        """Whether each event of the trace encloses a counted call, shape (number of events,)."""
        return _encloses(tree, self.row, len(tree.parent))


def find_counted_ops(trace: Trace, tree: OpTree) -> CountedOps:
    """Find the leaves among the operators that have a formula, with their costs and phases.

    Args:
        trace: the trace.
        tree: nesting of its operators.
    """
    rows = trace.rows(Category.CPU_OP)
    wanted = np.zeros(len(trace.names) + 1, np.bool_)
    wanted[trace.name_ids(frozenset(TABLE))] = True
    rows = rows[wanted[trace.events.name[rows]]]
    sparse = _of_sparse(trace, tree, rows)
    cost, costs = _costs(trace, tree, rows)
    cost[sparse] = _UNKNOWN
    known = rows[cost >= 0]
    leaf = ~_encloses(tree, known, len(trace.events))[known]
    kept, kept_cost = known[leaf], cost[cost >= 0][leaf]
    natural = np.array([c.backward for c in costs], np.bool_)
    phase = _phases(trace, tree, kept)
    phase[(phase == FORWARD) & natural[kept_cost]] = BACKWARD
    phase[(phase == BACKWARD) & compiled_recompute(trace, tree, kept, costs, kept_cost)] = RECOMPUTE
    inside = CountedOps(kept, kept_cost, phase, costs, 0)
    missing = rows[(cost < 0) & ~sparse]
    uncounted = (inside.owners(tree, missing) < 0) & ~_encloses(tree, kept, len(trace.events))[missing]
    return CountedOps(kept, kept_cost, phase, costs, int(uncounted.sum()))


def without_stopped(ops: CountedOps, trace: Trace) -> CountedOps:
    """The calls of a CPU-only trace, those at which recomputation stopped (they computed nothing) at no cost.

    Recomputation ends as soon as all tensors that backward needs exist. This can be inside the last operator: its inputs are
    kept before it computes. Its forward call had the same arguments and shows how long it takes.
    """
    length = trace.events.lasting(ops.row)
    usual = np.full(len(ops.costs), np.iinfo(np.int64).max)
    first = ops.phase == FORWARD
    np.minimum.at(usual, ops.cost[first], length[first])
    known = usual[ops.cost] < np.iinfo(np.int64).max
    stopped = (ops.phase == RECOMPUTE) & known & (length < STOPPED * usual[ops.cost])
    if not stopped.any():
        return ops
    nothing = OpFlops(model=0, executed=0, causal=0)
    cost = np.where(stopped, len(ops.costs), ops.cost)
    return replace(ops, cost=cost, costs=(*ops.costs, nothing))


def _of_sparse(trace: Trace, tree: OpTree, rows: Rows) -> npt.NDArray[np.bool_]:
    """Whether each of these calls multiplies a sparse tensor: its shape says nothing about how much is multiplied."""
    asked = trace.rows(Category.CPU_OP)
    asked = asked[np.isin(trace.events.name[asked], trace.name_ids(OF_SPARSE))]
    if not len(asked):
        return np.zeros(len(rows), np.bool_)
    around = _encloses(tree, asked, len(trace.events))
    around[asked] = True
    found = around[rows]
    current = tree.parent[rows].astype(np.int64)
    inside = trace.named(trace.name_ids(SPARSE_PRODUCTS))
    while (current >= 0).any():
        found |= (current >= 0) & inside[current]
        current = np.where(current >= 0, tree.parent[current], -1)
    return found


def _encloses(tree: OpTree, rows: Rows, count: int) -> npt.NDArray[np.bool_]:
    """Whether each event has one of these rows inside it, shape (count,)."""
    marked = np.zeros(count, np.bool_)
    current = tree.parent[rows].astype(np.int64)
    while len(current := distinct(current[current >= 0])):
        current = current[~marked[current]]
        marked[current] = True
        current = tree.parent[current].astype(np.int64)
    return marked


def _costs(trace: Trace, tree: OpTree, rows: Rows) -> tuple[npt.NDArray[np.int64], tuple[OpFlops, ...]]:
    """Index of each row's cost (-1: unknown) and the distinct costs."""
    events = trace.events
    around, known_around = _surroundings(trace, tree, rows)
    keys = events.name[rows], events.args[rows], around
    first, which = numbered_together(*keys)
    costs: list[OpFlops] = []
    index = np.full(len(first), -1, np.int64)
    for i, (name, arguments, where) in enumerate(zip(*(key[first].tolist() for key in keys), strict=True)):
        given = trace.args[arguments] if arguments >= 0 else None
        found = recorded_flops(trace.names[name], given, known_around[where])
        if found is not None:
            index[i] = len(costs)
            costs.append(found)
    return index[which], tuple(costs)


def _surroundings(trace: Trace, tree: OpTree, rows: Rows) -> tuple[npt.NDArray[np.int64], list[Surroundings]]:
    """For the few operators that need it, what their neighbours know: an index per row into a list (0: nothing)."""
    known = [Surroundings()]
    index = np.zeros(len(rows), np.int64)
    events = trace.events
    needy = np.isin(events.name[rows], trace.name_ids(NEEDS_PARENT))
    for at in np.flatnonzero(needy).tolist():
        up = int(tree.parent[rows[at]])
        if up >= 0 and (parent := trace.args_of(up)) is not None:
            index[at] = len(known)
            known.append(Surroundings(parent=parent))
    asked = np.flatnonzero(np.isin(events.name[rows], trace.name_ids(ASKS_FOR_INPUT)))
    for at, needed in zip(asked.tolist(), input_gradients(trace, tree, rows[asked]), strict=True):
        index[at] = len(known)
        known.append(Surroundings(input_needed=needed))
    silent = np.array([a.concrete is None for a in trace.args] + [True], np.bool_)
    forward = np.isin(events.name[rows], trace.name_ids(NEEDS_OUTPUT)) & silent[events.args[rows]]
    outputs = _outputs(trace, tree) if forward.any() else {}
    for at in np.flatnonzero(forward).tolist():
        output = outputs.get(int(events.sequence[rows[at]]))
        if output is not None:
            index[at] = len(known)
            known.append(Surroundings(output=output))
    return _merged(index, known)


def _merged(
    index: npt.NDArray[np.int64], known: list[Surroundings]
) -> tuple[npt.NDArray[np.int64], list[Surroundings]]:
    """Equal surroundings under one index, so that equal calls are costed once."""
    first: dict[Surroundings, int] = {}
    renumber = np.array([first.setdefault(s, len(first)) for s in known], np.int64)
    return renumber[index], list(first)


def _outputs(trace: Trace, tree: OpTree) -> dict[int, tuple[int, ...]]:
    """Shape of a forward convolution's output by its sequence number, from the gradient its backward operator received."""
    found: dict[int, tuple[int, ...]] = {}
    rows = trace.rows(Category.CPU_OP)
    rows = rows[np.isin(trace.events.name[rows], trace.name_ids(frozenset(GRADIENT_POSITION)))]
    for row in rows.tolist():
        arguments = trace.args_of(row)
        gradient = arguments.shape(GRADIENT_POSITION[trace.name_of(row)]) if arguments is not None else None
        sequence = next((s for up in tree.ancestors(row) if (s := int(trace.events.sequence[up])) >= 0), -1)
        if gradient is not None and sequence >= 0:
            found[sequence] = gradient
    return found


def _phases(trace: Trace, tree: OpTree, rows: Rows) -> npt.NDArray[np.uint8]:
    """Forward, backward, or recomputation: an operator inside the backward pass that itself records for autograd.

    Gradient operators run with recording off and carry no sequence number; what checkpointing runs again carries one. So do
    gradient operators whose own gradient is asked for (see `records_itself`). Compiled code: see `compiled_recompute`.
    """
    events = trace.events
    node = np.zeros(len(trace.names) + 1, np.bool_)
    node[ids_matching(trace, NODE)] = True
    evaluate = node.copy()
    evaluate[ids_matching(trace, NODE_CALL)] = True
    records = (events.sequence >= 0) & ~trace.named(np.flatnonzero(evaluate)) & (events.category == Category.CPU_OP)
    in_backward = np.zeros(len(rows), np.bool_)
    recorded = records[rows]
    innermost = np.full(len(rows), -1, np.int64)
    current = tree.parent[rows].astype(np.int64)
    while (current >= 0).any():
        safe = np.maximum(current, 0)
        in_backward |= (current >= 0) & evaluate[events.name[safe]]
        innermost = np.where((innermost < 0) & (current >= 0) & node[events.name[safe]], current, innermost)
        recorded |= (current >= 0) & ~in_backward & records[safe]
        current = np.where(current >= 0, tree.parent[safe], -1)
    phase = np.full(len(rows), FORWARD, np.uint8)
    phase[in_backward] = BACKWARD
    phase[in_backward & recorded & ~records_itself(trace, tree)[innermost]] = RECOMPUTE
    return phase


def records_itself(trace: Trace, tree: OpTree) -> npt.NDArray[np.bool_]:
    """Nodes whose gradient is recorded for a second one (`create_graph=True`), shape (events + 1,), the last for no node.

    A node computes its gradient after what it needs for that, so its last operator tells. Only nodes of torch's own operators:
    one of a checkpoint ends with the backward pass inside it.
    """
    events = trace.events
    inside = trace.rows(Category.CPU_OP)
    inside = inside[tree.parent[inside] >= 0]
    inside = inside[np.isin(events.name[tree.parent[inside]], ids_matching(trace, FORMULA_NODE))]
    # the engine's call of a node, drawn inside it where both begin in the same microsecond, has the number of the forward pass
    inside = inside[~np.isin(events.name[inside], ids_matching(trace, NODE_CALL))]
    inside = inside[np.argsort(events.start[inside], kind="stable")]
    found = np.zeros(len(events) + 1, np.bool_)
    found[tree.parent[inside]] = events.sequence[inside] >= 0  # of several, the last one stays
    return found
