"""Attentions whose scores get a bias that is itself a product with the queries: relative positions.

The scores are the sum of two products of one size. No fused kernel computes the second one: it would have to be given as a mask
of the full size, with a gradient.
"""

from __future__ import annotations

import re
from math import prod

import numpy as np

from mfu_doctor.analysis.evidence.backward import maker_of
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, under
from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.trace import Category

_SUM = re.compile(r"^aten::add_?$")
_PRODUCT = re.compile(r"^aten::(bmm|baddbmm)$")
_SOFTMAX = re.compile(r"^aten::_softmax(_backward_data)?$")


def has_query_bias(run: Run, softmax: Rows) -> Mask:
    """Whether each of these softmaxes, of forward or of backward, reads such a sum; shape of `softmax`."""
    made = maker_of(run, under(run, softmax, NODE_CALL))
    forward = np.where(made >= 0, made, softmax)
    ops = run.trace.rows(Category.CPU_OP)
    sums = _whole(run, rows_matching(run.trace, _SUM, ops), {_shape(run, row, 0) for row in set(forward.tolist())})
    if not len(sums):
        return np.zeros(len(softmax), np.bool_)
    others = rows_matching(run.trace, _PRODUCT, ops), rows_matching(run.trace, _SOFTMAX, ops)
    known = {row: _is_biased(run, row, (sums, *others)) for row in set(forward.tolist())}
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
    start, track = run.trace.events.start, run.trace.events.track
    sums, products, others = (rows[(start[rows] < start[softmax]) & (track[rows] == track[softmax])] for rows in ops)
    since = start[others].max() if len(others) else -1
    sums = sums[start[sums] > since]
    if not len(sums):
        return False
    between = products[(start[products] > since) & (start[products] < start[sums].min())]
    sizes = [prod(shape) for row in between.tolist() if (shape := _left(run, row)) is not None]
    return max((sizes.count(size) for size in sizes), default=0) > 1


def _left(run: Run, product: int) -> tuple[int, ...] | None:
    return _shape(run, product, 1 if run.trace.name_of(product) == "aten::baddbmm" else 0)


def _shape(run: Run, row: int, at: int) -> tuple[int, ...] | None:
    args = run.trace.args_of(row)
    return args.shape(at) if args is not None else None
