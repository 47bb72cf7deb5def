"""From work in backward to the operator of the forward pass that caused it.

The line of a backward operator is `loss.backward()`, for all of them. Autograd gives a node the sequence number of its operator.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.views.nesting import OpTree
from mfu_doctor.trace import Category, Trace

Rows = npt.NDArray[np.int64]


def forward_of(trace: Trace, ops: OpTree, rows: Rows) -> Rows:
    """For each row inside a node of backward the operator that the node belongs to, for all others the row itself.

    An operator without a node has the number of the next one, so of several with one number the last to begin counts.
    """
    node = _enclosing_node(trace, ops, rows)
    number = np.where(node >= 0, trace.events.sequence[np.maximum(node, 0)], -1)
    if not (number >= 0).any():
        return rows
    hosts = trace.rows(Category.CPU_OP)
    hosts = hosts[trace.events.sequence[hosts] >= 0]
    is_node = np.isin(trace.events.name[hosts], ids_matching(trace, NODE_CALL))
    hosts = hosts[~is_node & (_enclosing_node(trace, ops, hosts) < 0)]
    order = np.lexsort((trace.events.start[hosts], trace.events.sequence[hosts]))
    hosts = hosts[order]
    if not len(hosts):
        return rows
    at = np.searchsorted(trace.events.sequence[hosts], number, side="right") - 1
    forward = hosts[np.maximum(at, 0)]
    known = (number >= 0) & (at >= 0) & (trace.events.sequence[forward] == number)
    found: Rows = np.where(known, forward, rows)
    return found


def _enclosing_node(trace: Trace, ops: OpTree, rows: Rows) -> Rows:
    """The engine's call of a node that is or encloses each row on its thread, else -1."""
    named = np.zeros(len(trace.names) + 1, np.bool_)
    named[ids_matching(trace, NODE_CALL)] = True
    name, up, found = trace.events.name, rows.astype(np.int64), np.full(len(rows), -1, np.int64)
    while (up >= 0).any():
        here = (up >= 0) & named[name[np.maximum(up, 0)]]
        found[here] = up[here]
        up = np.where((up >= 0) & ~here, ops.parent[np.maximum(up, 0)], -1)
    return found
