"""Gradients as backward writes them: new for a parameter that was reset, or added to an old gradient that was not used.

An optimizer uses a gradient and resets it, and the next backward pass writes a new one. If the first backward pass after an
optimizer step adds to an old gradient, the optimizer of this pass does not reset this parameter: its gradient is not used. Either
no optimizer resets it, or that of another pass does (a GAN whose two networks take turns), and throws this gradient away.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mfu_doctor.analysis.evidence.attribution import calls_of
from mfu_doctor.analysis.evidence.backward import in_backward, node_calls
from mfu_doctor.analysis.evidence.steady_steps import Rows
from mfu_doctor.analysis.names.autograd import ACCUMULATE, ACCUMULATE_CALL
from mfu_doctor.analysis.names.vocabulary import OPTIMIZER_MARK, rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.intervals import Intervals, union
from mfu_doctor.trace import Category

_ADDING = re.compile(r"^aten::add_?$")
_ZEROING = re.compile(r"^aten::(_foreach_)?zero_$")
_ROOT = re.compile(r"^aten::ones_like$")  # backward() starts with the gradient of the loss, which is one


@dataclass(frozen=True, slots=True)
class Unused:
    """Gradients that are added up and never reset, in the first backward pass after each optimizer step.

    Attributes:
        rows: rows of the nodes that add such a gradient, shape (k,).
        tail: host time of backward after the last gradient that is used: nothing in it is needed.
        others_reset: whether passes without such a tail write as many new gradients: another optimizer resets and uses them.
    """

    rows: Rows
    tail: Intervals
    others_reset: bool


def unused_gradients_of(run: Run) -> Unused | None:
    """Unused gradients, or None if none of them comes after the last used one, or if resetting leaves no trace.

    Gradients that are overwritten with zeros are added to as well, so a run that does that cannot be analysed.
    """
    ops = run.trace.rows(Category.CPU_OP)
    nodes = node_calls(run, ops)
    marks = calls_of(run, OPTIMIZER_MARK)
    if not len(nodes) or not len(marks) or _resets_by_zeros(run, ops):
        return None
    start, end = run.trace.events.start, run.trace.events.end
    of_pass = np.searchsorted(_borders(run, ops), start[nodes])
    handed = np.isin(nodes, rows_matching(run.trace, ACCUMULATE_CALL, nodes))
    adds = np.isin(nodes, _adding(run, ops))
    kept, lo, hi, elsewhere = [], [], [], 0
    for number in _first_passes(run, marks, of_pass, nodes):
        mine = of_pass == number
        fresh, added = nodes[mine & handed & ~adds], nodes[mine & handed & adds]
        if not len(fresh):
            continue
        last = int(end[fresh].max())
        added = added[start[added] >= last]
        if not len(added):
            elsewhere = max(elsewhere, len(fresh))
            continue
        lo.append(last)
        hi.append(int(end[nodes[mine]].max()))
        kept.append(added)
    rows = np.concatenate(kept) if kept else np.empty(0, np.int64)
    if not len(rows):
        return None
    return Unused(rows, union(np.array(lo, np.int64), np.array(hi, np.int64)), elsewhere >= max(len(k) for k in kept))


def _borders(run: Run, ops: Rows) -> Rows:
    """Starts of the operators between two backward passes: forward work, and the root of each backward()."""
    forward = ops[run.trace.events.sequence[ops] >= 0]
    roots = rows_matching(run.trace, _ROOT, ops)
    both = np.union1d(forward, roots).astype(np.int64)
    forward_or_root = np.setdiff1d(both[~in_backward(run, both)], node_calls(run, both))
    return np.sort(run.trace.events.start[forward_or_root])


def _adding(run: Run, ops: Rows) -> Rows:
    """Nodes that add their gradient to an older one."""
    adding = rows_matching(run.trace, _ADDING, ops)
    inner = run.ops.parent[adding].astype(np.int64)
    inner = np.unique(inner[inner >= 0])
    outer = run.ops.parent[rows_matching(run.trace, ACCUMULATE, inner)].astype(np.int64)
    return np.unique(outer[outer >= 0])


def _first_passes(run: Run, marks: Rows, of_pass: Rows, nodes: Rows) -> list[int]:
    """Number of the first backward pass after each optimizer step."""
    begins = run.trace.events.start[nodes]
    at = np.searchsorted(begins, run.trace.events.end[marks])
    return [int(number) for number in np.unique(of_pass[at[at < len(nodes)]])]


def _resets_by_zeros(run: Run, ops: Rows) -> bool:
    """Whether the program itself zeroes tensors in place: set_to_none=False, or grad.zero_() by hand."""
    zeroing = rows_matching(run.trace, _ZEROING, ops)
    parent = run.ops.parent[zeroing]
    inside = (parent >= 0) & (run.trace.events.category[np.maximum(parent, 0)] == Category.CPU_OP)
    return bool((~inside).any())
