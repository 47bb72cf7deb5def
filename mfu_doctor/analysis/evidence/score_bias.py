"""Attentions whose scores get a bias that no fused kernel takes: relative positions.

The scores are the sum of two products of one size, one of them with the queries: it would have to be given as a mask of the full
size, with a gradient. Or the bias is learned, for all samples alike: no fused kernel of a CPU takes a mask that needs a gradient.
Backward sums the gradient of the scores for such a bias.
"""

from __future__ import annotations

import re
from collections import Counter
from math import prod

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.backward import maker_of, told_of
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, under
from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.trace import Category

_SUM = re.compile(r"^aten::add_?$")
_PRODUCT = re.compile(r"^aten::(bmm|baddbmm)$")
_SUM_NODE = re.compile(rf"{NODE_CALL.pattern}AddBackward0$")
_TOTAL = re.compile(r"^aten::sum$")
_SOFTMAX = re.compile(r"^aten::_softmax(_backward_data)?$")


def has_own_bias(run: Run, softmax: Rows) -> Mask:
    """Whether each of these softmaxes, of forward or of backward, reads such a sum; shape of `softmax`."""
    node = under(run, softmax, NODE_CALL)
    made = np.where(node >= 0, maker_of(run, np.maximum(node, 0)), -1)
    forward = np.where(made >= 0, made, softmax)
    ops = run.trace.rows(Category.CPU_OP)
    scores = {_shape(run, row, 0) for row in set(forward.tolist())}
    sums, learned = _whole(run, rows_matching(run.trace, _SUM, ops), scores), _learned(run, scores)
    if not len(sums) and not len(learned):
        return np.zeros(len(softmax), np.bool_)
    around = _Around(
        start=run.trace.events.start,
        track=run.trace.events.track,
        softmaxes=_by_thread(run, rows_matching(run.trace, _SOFTMAX, ops)),
        sums=_by_thread(run, sums),
        learned=_by_thread(run, learned),
        products=_by_thread(run, rows_matching(run.trace, _PRODUCT, ops)),
    )
    known = {row: _is_biased(run, row, around) for row in set(forward.tolist())}
    return np.array([known[row] for row in forward.tolist()], np.bool_)


class _InOrder(Struct, frozen=True):
    """Rows of one thread in the order of their starts: what lies between two times is looked up, not searched."""

    rows: Rows
    start: Rows

    def between(self, since: int, until: int) -> Rows:
        """Those that begin after the first of these times and before the second."""
        return self.rows[np.searchsorted(self.start, since, "right") : np.searchsorted(self.start, until, "left")]

    def last_before(self, time: int) -> int:
        """When the last one before this time began; -1: there is none."""
        at = int(np.searchsorted(self.start, time, "left"))
        return int(self.start[at - 1]) if at else -1


_NONE = _InOrder(np.empty(0, np.int64), np.empty(0, np.int64))


class _Around(Struct, frozen=True):
    """What may make the scores that a softmax reads, for each thread; and when and where each event row began."""

    start: Rows
    track: npt.NDArray[np.int16]
    softmaxes: dict[int, _InOrder]
    sums: dict[int, _InOrder]
    learned: dict[int, _InOrder]
    products: dict[int, _InOrder]


def _by_thread(run: Run, rows: Rows) -> dict[int, _InOrder]:
    """These rows, in order of time, for each thread that has some."""
    start, track = run.trace.events.start, run.trace.events.track
    rows = rows[np.argsort(start[rows], kind="stable")]
    return {thread: _InOrder(rows[here], start[rows[here]]) for thread, here in groups(track[rows])}


def _whole(run: Run, sums: Rows, scores: set[tuple[int, ...] | None]) -> Rows:
    """Those that add up two tensors with the shape of scores: not a mask for all heads."""
    told = run.trace.events.args[sums]
    each = ((at, run.trace.args[at]) for at in np.unique(told).tolist() if at >= 0)
    return sums[
        np.isin(told, [at for at, args in each if args.shape(0) == args.shape(1) and args.shape(0) in scores - {None}])
    ]


def _is_biased(run: Run, softmax: int, around: _Around) -> bool:
    """Whether a bias that is learned, or two products with as many elements on the left, make what this softmax reads."""
    begin, thread = int(around.start[softmax]), int(around.track[softmax])
    since = around.softmaxes.get(thread, _NONE).last_before(begin)
    if len(around.learned.get(thread, _NONE).between(since, begin)):
        return True
    sums = around.sums.get(thread, _NONE).between(since, begin)
    if not len(sums):
        return False
    products = around.products.get(thread, _NONE).between(since, int(around.start[sums[0]]))
    sizes = Counter(prod(shape) for row in products.tolist() if (shape := _left(run, row)) is not None)
    return max(sizes.values(), default=0) > 1


def _learned(run: Run, scores: set[tuple[int, ...] | None]) -> Rows:
    """Sums that add to scores what needs a gradient itself; none where a fused kernel takes it.

    The graph tells, if it was read. Else only a smaller tensor is known to need one: backward sums the gradient of the scores.
    """
    ops = run.trace.rows(Category.CPU_OP)
    nodes = rows_matching(run.trace, _SUM_NODE, ops) if run.is_cpu else ops[:0]
    inputs = _inputs(run, nodes)
    totals = under(run, rows_matching(run.trace, _TOTAL, ops), NODE_CALL)
    made, summed = maker_of(run, nodes), np.isin(nodes, totals)
    told = zip(made.tolist(), inputs.tolist(), summed.tolist(), strict=True)
    return np.array([row for row, count, total in told if row >= 0 and _adds(run, row, scores, count, total)], np.int64)


def _adds(run: Run, row: int, scores: set[tuple[int, ...] | None], inputs: int, total: bool) -> bool:
    left, right = _shape(run, row, 0), _shape(run, row, 1)
    return bool(scores & {left, right}) and (inputs > 1 if inputs >= 0 else total and left != right)


def _inputs(run: Run, nodes: Rows) -> Rows:
    """How many inputs get a gradient of each of these calls of nodes; -1: not known."""
    told = run.facts.graph_depths if run.facts is not None else None
    return told_of(run, nodes, *((told.sequence, told.inputs) if told is not None and told.inputs else ((), ())))


def _left(run: Run, product: int) -> tuple[int, ...] | None:
    return _shape(run, product, 1 if run.trace.name_of(product) == "aten::baddbmm" else 0)


def _shape(run: Run, row: int, at: int) -> tuple[int, ...] | None:
    args = run.trace.args_of(row)
    return args.shape(at) if args is not None else None
