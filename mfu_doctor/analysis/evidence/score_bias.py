"""Attentions whose scores get a bias that no fused kernel takes: relative positions.

The scores are the sum of two products of one size, one of them with the queries: it would have to be given as a mask of the full
size, with a gradient. Or the bias is learned, for all samples alike: no fused kernel of a CPU takes a mask that needs a gradient.
Backward sums the gradient of the scores for such a bias.
"""

from __future__ import annotations

import re
from math import prod

import numpy as np

from mfu_doctor.analysis.evidence.backward import maker_of, told_of
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, under
from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
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
    others = rows_matching(run.trace, _PRODUCT, ops), rows_matching(run.trace, _SOFTMAX, ops)
    known = {
        row: len(_since(run, row, learned, others[1])[0]) > 0 or _is_biased(run, row, (sums, *others))
        for row in set(forward.tolist())
    }
    return np.array([known[row] for row in forward.tolist()], np.bool_)


def _whole(run: Run, sums: Rows, scores: set[tuple[int, ...] | None]) -> Rows:
    """Those that add up two tensors with the shape of scores: not a mask for all heads."""
    told = run.trace.events.args[sums]
    each = ((at, run.trace.args[at]) for at in np.unique(told).tolist() if at >= 0)
    return sums[
        np.isin(told, [at for at, args in each if args.shape(0) == args.shape(1) and args.shape(0) in scores - {None}])
    ]


def _is_biased(run: Run, softmax: int, ops: tuple[Rows, Rows, Rows]) -> bool:
    """Whether two products with as many elements on the left make what this softmax reads; `ops`: sums, products, softmaxes."""
    start = run.trace.events.start
    sums, since = _since(run, softmax, ops[0], ops[2])
    if not len(sums):
        return False
    products = ops[1][run.trace.events.track[ops[1]] == run.trace.events.track[softmax]]
    between = products[(start[products] > since) & (start[products] < start[sums].min())]
    sizes = [prod(shape) for row in between.tolist() if (shape := _left(run, row)) is not None]
    return max((sizes.count(size) for size in sizes), default=0) > 1


def _since(run: Run, softmax: int, rows: Rows, others: Rows) -> tuple[Rows, int]:
    """Those rows of its thread between the softmax before this one and itself, and when that one began (-1: there is none)."""
    start, track = run.trace.events.start, run.trace.events.track
    rows, others = (x[(start[x] < start[softmax]) & (track[x] == track[softmax])] for x in (rows, others))
    since = int(start[others].max(initial=-1))
    return rows[start[rows] > since], since


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
