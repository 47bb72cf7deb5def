"""Whether a backward pass asks for the gradient of a recurrent layer's input, which the layer's own arguments do not tell.

The nodes of a graph are numbered in the order in which the forward pass made them. So a node that made the input has a smaller
number, and runs later. If none such does, and no gradient of the input's shape is kept either, nobody asked.

The numbers do not tell what a node made: behind another branch of the model that comes first (a tower beside an LSTM on data) the
gradient of the input is counted although nobody asked, which is 18 to 20 % of such a layer too much.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.names.autograd import ACCUMULATE, NODE, NODE_CALL
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.views.nesting import OpTree
from mfu_doctor.trace import Trace

Rows = npt.NDArray[np.int64]

_INPUT, _REVERSE = 0, 13  # places among the arguments


def input_gradients(trace: Trace, tree: OpTree, rows: Rows) -> list[bool]:
    """Whether each of these gradients of one layer in one direction is asked for that of its input.

    Args:
        trace: the trace.
        tree: nesting of its operators.
        rows: event rows of the calls.
    """
    events = trace.events
    is_node = trace.named(ids_matching(trace, NODE)) & (events.sequence >= 0)
    nodes = [next((up for up in tree.ancestors(row) if is_node[up]), -1) for row in rows.tolist()]
    calls = node_calls(trace)
    kept = np.flatnonzero(trace.named(ids_matching(trace, ACCUMULATE)))
    return [
        node < 0 or is_made(trace, node, calls, _other_direction(trace, row, node)) or _is_kept(trace, row, kept)
        for row, node in zip(rows.tolist(), nodes, strict=True)
    ]


def node_calls(trace: Trace) -> Rows:
    """Event rows of the calls of nodes that carry a number."""
    events = trace.events
    return np.flatnonzero(trace.named(ids_matching(trace, NODE_CALL)) & (events.sequence >= 0))


def is_made(trace: Trace, node: int, calls: Rows, but: int = -1) -> bool:
    """Whether a node that may have made the input of this one runs after it.

    Args:
        trace: the trace.
        node: event row of the node.
        calls: of all nodes.
        but: number of one that has not made it.
    """
    events = trace.events
    later = events.sequence[calls[events.start[calls] > events.start[node]]]
    return bool(((later < events.sequence[node]) & (later != but)).any())


def _other_direction(trace: Trace, row: int, node: int) -> int:
    """Number of the node of the same layer forwards, which was made just before that of the layer backwards; -1 for none."""
    args = trace.args_of(row)
    is_second = args is not None and args.printed(_REVERSE) is True
    return int(trace.events.sequence[node]) - 1 if is_second else -1


def _is_kept(trace: Trace, row: int, kept: Rows) -> bool:
    """Whether a gradient of the input's shape is handed to a tensor afterwards: the input may be that tensor."""
    args, events = trace.args_of(row), trace.events
    shape = None if args is None else args.shape(_INPUT)
    after = kept[events.start[kept] > events.start[row]]
    return any(given is not None and given.shape(0) == shape for given in map(trace.args_of, after.tolist()))
