"""Which operators run in backward: those inside an autograd node that the engine calls, and which operator added the node.

Autograd gives an operator and its node the same sequence number. An operator without a node carries the number of the next one,
so a number belongs to the last operator that has it. An operator that writes into a view adds two nodes: its own, and CopySlices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.evidence.steady_steps import Rows, topmost, under
from mfu_doctor.analysis.names.autograd import COPY_SLICES_CALL, NODE_CALL
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.counted_ops import records_itself
from mfu_doctor.analysis.views.once import once
from mfu_doctor.arrays.distinct import distinct, places, without
from mfu_doctor.trace import Category


def node_calls(run: Run, rows: Rows) -> Rows:
    """Those rows that are the engine's call of a node, shape (k,)."""
    return rows_matching(run.trace, NODE_CALL, rows)


def nodes_numbered(run: Run, numbers: Sequence[int]) -> tuple[Rows, Rows]:
    """Calls of the nodes with these numbers of autograd in the step that was recorded in depth, all steps.

    Also the position in `numbers` of each; both of shape (k,).
    """
    rows = node_calls(run, run.trace.rows(Category.CPU_OP))
    if not numbers:
        return rows[:0], rows[:0]
    twins = run.recorded_rows(rows)
    number = np.where(twins >= 0, run.recorded.events.sequence[np.maximum(twins, 0)], -1)
    order = np.argsort(numbers)
    known = np.array(numbers, np.int64)[order]
    at = np.minimum(np.searchsorted(known, number), len(known) - 1)
    mine = known[at] == number
    return rows[mine], order[at[mine]]


def told_of(run: Run, nodes: Rows, numbers: Sequence[int], values: Sequence[int]) -> Rows:
    """For each of these calls of nodes the value that is told of its number; -1 where none is."""
    rows, at = nodes_numbered(run, numbers)
    return np.append(np.array(values, np.int64)[at], -1)[places(rows, nodes)]


def nodes_of_passes(run: Run, numbers: Sequence[int], roots: Sequence[int]) -> tuple[Rows, Rows]:
    """The same of nodes in certain passes: several may run a graph that is retained.

    Args:
        run: the run.
        numbers: of the nodes.
        roots: for each the number of the first node of its pass; empty where the recording does not tell: the first one is meant.
    """
    events = run.recorded.events
    calls = rows_matching(run.recorded, NODE_CALL, run.recorded.rows(Category.CPU_OP))
    number, start = events.sequence[calls].astype(np.int64), events.start[calls]
    told = len(roots) == len(numbers)
    index, root_of = np.array(numbers, np.int64), np.array(roots if told else np.full(len(numbers), -1), np.int64)
    empty = np.zeros(0, np.int64)
    found = [(empty, empty)]
    for root in distinct(root_of).tolist():
        entries = np.flatnonzero(root_of == root)
        meant = calls[_first_after(number, start, start[number == root] if told else start[:1])]
        rows, at = nodes_numbered(run, index[entries].tolist())
        kept = np.isin(run.recorded_rows(rows), meant)
        found.append((rows[kept], entries[at[kept]]))
    rows, at = (np.concatenate(column) for column in zip(*found, strict=True))
    return rows, at


def _first_after(number: Rows, start: Rows, begins: Rows) -> npt.NDArray[np.bool_]:
    """Which calls are the first of their number since one of these times."""
    order = np.lexsort((start, number))
    begun, same = np.searchsorted(begins, start[order], side="right"), np.diff(number[order]) == 0
    before = np.zeros(len(order), np.int64)
    before[1:] = np.where(same, begun[:-1], 0)
    found = np.zeros(len(order), np.bool_)
    found[order] = begun > before
    return found


def in_backward(run: Run, rows: Rows) -> npt.NDArray[np.bool_]:
    """Whether each row runs inside a node of backward; the outermost call of a node does not; shape of `rows`."""
    inside: npt.NDArray[np.bool_] = under(run, rows, NODE_CALL) >= 0
    return inside


@once
def node_makers(run: Run) -> Rows:
    """Operators of forward that added a node to the graph, one for each sequence number, in the order of the numbers."""
    events = run.trace.events
    rows = run.trace.rows(Category.CPU_OP)
    rows = without(rows[events.sequence[rows] >= 0], node_calls(run, rows))
    rows = rows[~in_backward(run, rows)]
    latest_first = rows[np.argsort(events.start[rows], kind="stable")][::-1]
    _, at = np.unique(events.sequence[latest_first], return_index=True)
    return latest_first[at]


def maker_of(run: Run, nodes: Rows) -> Rows:
    """For each of these calls of a node the operator that added it, -1 if that is not in the trace; shape of `nodes`."""
    sequence, makers = run.trace.events.sequence, node_makers(run)
    if not len(makers):
        return np.full(len(nodes), -1, np.int64)
    number = sequence[nodes] - np.isin(nodes, rows_matching(run.trace, COPY_SLICES_CALL, nodes))
    at = np.minimum(np.searchsorted(sequence[makers], number), len(makers) - 1)
    return np.where(sequence[makers[at]] == number, makers[at], -1)


def in_graph(run: Run, rows: Rows) -> npt.NDArray[np.bool_]:
    """Which of these outermost operators are or contain one whose node backward runs; shape of `rows`."""
    makers = maker_of(run, node_calls(run, run.trace.rows(Category.CPU_OP)))
    return np.isin(rows, topmost(run, distinct(makers[makers >= 0])))


def is_differentiated(run: Run) -> bool:
    """Whether backward is itself differentiated (`create_graph=True`): gradients of gradients."""
    return bool(records_itself(run.trace, run.ops).any())
