"""Work of backward that computes gradients which nobody uses: whole nodes of autograd, and parts of nodes.

A node computes a gradient for each of its inputs. If none of them is used, all of the node is needless. If that of the layer's
input is used and that of its weight is not, one of two products is needless, or half of an operator that computes both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import inherited, lessened, without_host, work_in
from mfu_doctor.analysis.evidence.backward import node_calls
from mfu_doctor.analysis.evidence.steady_steps import Rows, Steady, outermost, under
from mfu_doctor.analysis.names.autograd import ACCUMULATE_CALL, NODE_CALL
from mfu_doctor.analysis.names.vocabulary import LABEL, rows_matching
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import without
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.trace import Category

Floats = npt.NDArray[np.float64]

# Inputs of a node whose gradients are products as large as the forward one, in the order in which the node computes them; the
# first is the input of the layer (derivatives.yaml of PyTorch).
PRODUCTS = {
    "AddmmBackward0": (1, 2),
    "MmBackward0": (0, 1),
    "BmmBackward0": (0, 1),
    "BaddbmmBackward0": (1, 2),
    "ConvolutionBackward0": (0, 1),
    "CudnnRnnBackward0": (0, 1),
    "MkldnnRnnLayerBackward0": (0, 1),
}


class Nodes(Struct, frozen=True):
    """Calls of nodes that compute unused gradients, in time order; arrays of shape (k,).

    Attributes:
        row: event rows of the engine's calls.
        unused: their inputs whose gradient nobody uses, as bits.
        needed: their other inputs with a gradient, as bits; 0: the whole node is needless.
    """

    row: Rows
    unused: npt.NDArray[np.int64]
    needed: npt.NDArray[np.int64]


class NeedlessBackward(Struct, frozen=True):
    """What nodes do for unused gradients.

    Attributes:
        whole: host time of what is needless as a whole.
        share: needless part of the work of each entry of the activity table, shape (n,).
        in_whole: the same, only of what is needless as a whole.
        handed: rows of the calls that hand such a gradient to its parameter.
    """

    whole: Intervals
    share: Floats
    in_whole: Floats
    handed: Rows

    def device_ns(self, run: Run, steady: Steady) -> float:
        """Its device time per steady step, in nanoseconds."""
        return float(((run.activity.end - run.activity.start) * steady.entry_part(run)) @ self.share)

    def removed(self, run: Run) -> Change:
        """Without it: at the low end only its device time, else the time to launch it too."""
        device = lessened(run, self.share)
        everything = (*device, *without_host(run, self.whole))
        return Change(device, everything, everything)


def whole_nodes(rows: Rows) -> Nodes:
    """These calls, as needless as a whole."""
    return Nodes(rows, np.ones(len(rows), np.int64), np.zeros(len(rows), np.int64))


def together(nodes: list[Nodes]) -> Nodes:
    """All of them; a node in two groups counts as in the one of which more is needless."""
    columns = zip(*((n.row, n.unused, n.needed) for n in nodes), strict=True)
    row, unused, needed = (np.concatenate(column) for column in columns)
    order = np.lexsort((needed, row))
    _, first = np.unique(row[order], return_index=True)
    kept = order[first]
    return Nodes(row[kept], unused[kept], needed[kept])


def needless_backward(run: Run, nodes: Nodes) -> NeedlessBackward:
    """What these nodes do for unused gradients."""
    alone = nodes.needed == 0
    handed = _handed(run, nodes)
    whole = _stretches(run, np.sort(np.concatenate((nodes.row[alone], handed))))
    in_whole = work_in(run, whole).astype(np.float64)
    rows, part = _parts(run, Nodes(nodes.row[~alone], nodes.unused[~alone], nodes.needed[~alone]))
    of_op = np.zeros(len(run.trace.events) + 1)
    of_op[rows] = part
    op = run.launches.op
    share = np.maximum(in_whole, inherited(run, op, of_op))
    return NeedlessBackward(whole, share, in_whole, handed)


def _handed(run: Run, nodes: Nodes) -> Rows:
    """Calls that hand a gradient of these nodes to its parameter: they follow their node at once."""
    calls = node_calls(run, run.trace.rows(Category.CPU_OP))
    is_handing = np.isin(calls, rows_matching(run.trace, ACCUMULATE_CALL, calls))
    maker = np.maximum.accumulate(np.where(is_handing, -1, np.arange(len(calls))))
    first = np.array([1 << PRODUCTS.get(_name(run, row), (0,))[0] for row in nodes.row.tolist()], np.int64)
    mine = nodes.row[(nodes.needed & ~first) == 0]
    handing = is_handing & (maker >= 0) & np.isin(calls[np.maximum(maker, 0)], mine)
    return calls[handing]


def _stretches(run: Run, rows: Rows) -> Intervals:
    """The time of these calls, with the engine's own time between two that follow one another."""
    if not len(rows):
        return union(rows, rows)
    events = run.trace.events
    others = run.trace.rows(Category.CPU_OP)
    others = outermost(run, others[~np.isin(others, rows_matching(run.trace, LABEL, others))])
    others = without(others, rows)
    begins = np.sort(events.start[others])
    start, end = events.start[rows], events.end[rows]
    between = np.searchsorted(begins, start[1:]) - np.searchsorted(begins, start[:-1])
    joined = (between == 0) & (events.track[rows][1:] == events.track[rows][:-1])
    gaps = np.flatnonzero(joined)
    return union(np.concatenate((start, end[gaps])), np.concatenate((end, np.maximum(start[gaps + 1], end[gaps]))))


def _parts(run: Run, nodes: Nodes) -> tuple[Rows, Floats]:
    """Operators in these nodes, and the part of each that is for unused gradients."""
    counted = run.flops.ops.row.astype(np.int64)
    within = under(run, counted, NODE_CALL)
    rows: list[int] = []
    part: list[float] = []
    for node, unused, needed in zip(nodes.row.tolist(), nodes.unused.tolist(), nodes.needed.tolist(), strict=True):
        asked = [p for p in PRODUCTS.get(_name(run, node), ()) if (unused | needed) >> p & 1]
        mine = counted[within == node].tolist()
        idle = [bool(unused >> p & 1) for p in asked]
        if len(mine) == len(asked):
            rows += mine
            part += [float(one) for one in idle]
        elif len(mine) == 1 and asked:
            rows += mine
            part.append(sum(idle) / len(asked))
    return np.array(rows, np.int64), np.array(part, np.float64)


def _name(run: Run, row: int) -> str:
    return NODE_CALL.sub("", run.trace.name_of(row))
