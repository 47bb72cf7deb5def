"""The backward passes of a run: which nodes each runs, and which of them write a gradient or add to one.

A parameter that was reset gets a new gradient; what comes to one that was not is added to the old one.
"""

from __future__ import annotations

import re

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import calls_of
from mfu_doctor.analysis.evidence.backward import in_backward, node_calls
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, under
from mfu_doctor.analysis.names.autograd import ACCUMULATE, ACCUMULATE_CALL, NODE, NODE_CALL, ROOT
from mfu_doctor.analysis.names.vocabulary import OPTIMIZER_MARK, rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.once import once
from mfu_doctor.arrays.distinct import distinct, numbered_together, without
from mfu_doctor.trace import Category

_ADDING = re.compile(r"^aten::add_?$")
_ZEROING = re.compile(r"^aten::(_foreach_)?zero_$")
_VIEW_NODE = re.compile(
    r"^autograd::engine::evaluate_function: (T|Transpose|Permute|View|Unsafe\w*|ToCopy)Backward\d+$"
)


class Passes(Struct, frozen=True):
    """Nodes in time order; arrays of shape (n,).

    Attributes:
        nodes: rows of the engine's calls.
        number: the pass that each belongs to.
        fresh: which of them write a new gradient.
        added: which of them add to an old one.
        maker: index of the node that computed what these two hand over; of any other node of its own or of one that it follows.
    """

    nodes: Rows
    number: Rows
    fresh: Mask
    added: Mask
    maker: Rows

    def handing(self, which: Mask) -> Mask:
        """Nodes with a gradient that is handed over in such a way; shape (n,)."""
        found: Mask = np.bincount(self.maker[which], minlength=len(self.nodes)) > 0
        return found


@once
def passes_of(run: Run) -> Passes | None:
    """The backward passes; None if there are none, or if nothing tells new gradients from others.

    Gradients that are overwritten with zeros are added to as well, so a run that does that cannot be analysed.
    """
    ops = run.trace.rows(Category.CPU_OP)
    nodes = node_calls(run, ops)
    if not len(nodes) or _resets_by_zeros(run, ops):
        return None
    handed = np.isin(nodes, rows_matching(run.trace, ACCUMULATE_CALL, nodes))
    adds = np.isin(nodes, _adding(run, ops))
    makes = ~handed & ~np.isin(nodes, rows_matching(run.trace, _VIEW_NODE, nodes))
    maker = np.maximum.accumulate(np.where(makes, np.arange(len(nodes)), 0))
    number = np.searchsorted(_borders(run, ops), run.trace.events.start[nodes])
    return Passes(nodes, number, handed & ~adds, handed & adds, maker)


def repeated_nodes(run: Run) -> Rows:
    """Calls of nodes that another pass of the same step has run before, if both only add up gradients for one optimizer step.

    Gradients that are differentiated again do not count: their pass does not hand over gradients, or its operators are recorded.
    """
    passes = passes_of(run)
    if passes is None:
        return np.empty(0, np.int64)
    events = run.trace.events
    nodes, sequence = passes.nodes, events.sequence[passes.nodes]
    _, same = numbered_together(sequence, events.name[nodes])
    order = np.argsort(same, kind="stable")
    before = np.full(len(nodes), -1, np.int64)  # index of the last run of the same node
    before[order[1:]] = np.where(np.diff(same[order]) == 0, order[:-1], -1)
    turn = np.searchsorted(events.end[calls_of(run, OPTIMIZER_MARK)], events.start[nodes])  # optimizer steps so far
    known = np.maximum(before, 0)
    again = (before >= 0) & (sequence >= 0) & (turn == turn[known]) & (passes.number != passes.number[known])
    again &= ~_recording(run, nodes)[known]
    hands = np.isin(passes.number, passes.number[passes.fresh | passes.added])
    again &= hands & hands[known]
    fresh = again & passes.handing(passes.fresh)  # it was reset in between: somebody has used what was there
    added = again & passes.handing(passes.added)
    kept = np.isin(passes.number, passes.number[added]) & ~np.isin(passes.number, passes.number[fresh])
    found: Rows = nodes[again & kept]
    return found


def _recording(run: Run, nodes: Rows) -> Mask:
    """Which of these nodes record their own operators for autograd (create_graph=True), shape (k,)."""
    events = run.trace.events
    ops = run.trace.rows(Category.CPU_OP)
    inner = without(ops[events.sequence[ops] >= 0], nodes)
    inner = without(inner, rows_matching(run.trace, NODE, inner))
    found: Mask = np.isin(nodes, under(run, inner, NODE_CALL))
    return found


def _borders(run: Run, ops: Rows) -> Rows:
    """Starts of the operators between two backward passes: forward work, and the root of each backward()."""
    forward = ops[run.trace.events.sequence[ops] >= 0]
    roots = rows_matching(run.trace, ROOT, ops)
    both = distinct(np.concatenate((forward, roots))).astype(np.int64)
    forward_or_root = without(both[~in_backward(run, both)], node_calls(run, both))
    return np.sort(run.trace.events.start[forward_or_root])


def _adding(run: Run, ops: Rows) -> Rows:
    """Nodes that add their gradient to an older one."""
    adding = rows_matching(run.trace, _ADDING, ops)
    inner = run.ops.parent[adding].astype(np.int64)
    inner = distinct(inner[inner >= 0])
    outer = run.ops.parent[rows_matching(run.trace, ACCUMULATE, inner)].astype(np.int64)
    return distinct(outer[outer >= 0])


def _resets_by_zeros(run: Run, ops: Rows) -> bool:
    """Whether the program itself zeroes tensors in place: set_to_none=False, or grad.zero_() by hand."""
    zeroing = rows_matching(run.trace, _ZEROING, ops)
    parent = run.ops.parent[zeroing]
    inside = (parent >= 0) & (run.trace.events.category[np.maximum(parent, 0)] == Category.CPU_OP)
    return bool((~inside).any())
