"""The loss over a large vocabulary, found by what it does: all work on tensors of the width of the logits.

A loss can be one operator (cross_entropy) or written out: one-hot, log_softmax, exp and sums, products in float64. All of them
read and write tensors with one column per class, as the last matmul of the model makes them. Where each row of the targets has
a column per class too, into which one value is scattered, a loss over fewer classes is found as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from math import prod

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import owner_of
from mfu_doctor.analysis.evidence.backward import in_backward
from mfu_doctor.analysis.evidence.steady_steps import Mask, Steady
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.devices.dtypes import element_bytes
from mfu_doctor.trace import Category, EventArgs

LOSS = re.compile(r"^aten::_log_softmax(_backward_data)?$|^aten::nll_loss(_forward|_backward)$")
# Operators of which a loss over classes has at least one, however it is written.
_OF_A_LOSS = re.compile(r"^aten::(_?log_softmax|_?softmax|logsumexp|exp|scatter_?|one_hot|gather|nll_loss\w*|log)$")
# Matmuls: position of the right-hand operand, and which of its sizes is the number of columns of the result.
_PRODUCTS = (
    (re.compile(r"^aten::(mm|bmm)$"), 1, -1),
    (re.compile(r"^aten::addmm$"), 2, -1),
    (re.compile(r"^aten::linear$"), 1, 0),
)
_LOG_SOFTMAX = re.compile(r"^aten::_log_softmax$")
_SCATTER, _FILL = re.compile(r"^aten::scatter_?$"), re.compile(r"^aten::(fill_|full|full_like)$")
_ZERO = ("aten::zero_", "aten::zeros", "aten::zeros_like")
_PRODUCT = re.compile(r"^aten::(mm|bmm|addmm|baddbmm)$")
_INDEX = 2  # position of the indices among what is scattered
_LOGITS_DIMS = 2
# Vocabularies of language models; classifiers have fewer classes.
LEAST_VOCABULARY = 16_384
_FEWEST_CLASSES = 256  # of a loss whose targets have a column per class
_MOST_OF = 0.1  # of the logits that an operator touches at the least


class VocabLoss(Struct, frozen=True):
    """The loss over a large vocabulary.

    Attributes:
        entries: mask of its entries in the activity table, forward and backward, all steps.
        tokens: rows of the logits.
        vocabulary: their columns.
        element_bytes: bytes of one logit as the model makes it.
        row: the longest operator, of the forward pass if it is recorded there.
        passes: how often a step reads or writes all logits, in elements of this size; None if shapes do not say.
        is_written_out: whether other operators than those of cross_entropy do most of it.
        is_smoothed: whether targets with a column per class are filled with a value before one is scattered into each row.
    """

    entries: Mask
    tokens: int
    vocabulary: int
    element_bytes: float
    row: int
    passes: float | None
    is_written_out: bool
    is_smoothed: bool


def vocab_loss_of(run: Run, steady: Steady) -> VocabLoss | None:
    """The loss over the widest vocabulary of the run, or None if there is none."""
    largest = [args.largest for args in run.trace.args]
    direct = {s[-1] for s in _shapes(run, largest, LOSS) if len(s) == _LOGITS_DIMS}
    losing = _shapes(run, largest, _OF_A_LOSS)
    made = dict(_made(run))
    dense = _dense_targets(run, steady)
    wide = [v for v in direct | ({s[-1] for s in losing} & set(made)) if v >= LEAST_VOCABULARY]
    wide += [s[-1] for s in dense]
    if not wide:
        return None
    vocabulary = max(wide)
    tokens = max(prod(s) // vocabulary for s in losing if s[-1] == vocabulary)
    if vocabulary >= LEAST_VOCABULARY:
        entries = _entries(run, [_is_wide(s, tokens, vocabulary) for s in largest])
    else:  # other layers may be as wide: only what is of exactly this size
        entries = _entries(run, [s[-1:] == (vocabulary,) and prod(s) == tokens * vocabulary for s in largest])
    inside = entries & steady.entries(run)
    if not inside.any():
        return None
    length = (run.activity.end - run.activity.start).astype(np.float64)
    named = owner_of(run, LOSS) >= 0
    size = made.get(vocabulary, 4.0)
    # on a CPU an operator and those that it calls are entries: only the innermost ones move memory
    calling = np.isin(run.launches.op, run.ops.parent[distinct(run.launches.op[inside])])
    moved = run.least_bytes[inside & ~calling]
    known = not np.isnan(moved).all()
    is_written_out = bool(length[inside & ~named].sum() > length[inside & named].sum())
    if vocabulary < LEAST_VOCABULARY and not is_written_out:
        return None
    return VocabLoss(
        entries=entries,
        tokens=tokens,
        vocabulary=vocabulary,
        element_bytes=size,
        row=_longest(run, inside),
        passes=steady.per_step(float(np.nansum(moved))) / (tokens * vocabulary * size) if known else None,
        is_written_out=is_written_out,
        is_smoothed=any(s[-1] == vocabulary for s in dense & _filled(run)),
    )


def _dense_targets(run: Run, steady: Steady) -> set[tuple[int, ...]]:
    """Sizes of logits, of which log_softmax is taken, into tensors of whose size one value in each row is scattered.

    Once in a step: targets of two samples each (mixup) are no class numbers. Nor may another product of forward make a result of
    this size: then layers of this width cannot be told from the logits.
    """
    logits = {run.trace.args[index].shape(0) for index in _arguments(run, _LOG_SOFTMAX)}
    into = (_target(run.trace.args_of(row)) for row in _issued(run, steady, _SCATTER))
    targets = Counter(one for one in into if one is not None)
    made = Counter(_result(run.trace.args_of(row)) for row in _issued(run, steady, _PRODUCT))
    return {
        target
        for target, times in targets.items()
        if target in logits
        and target[-1] >= _FEWEST_CLASSES
        and times == steady.count
        and made[target[-1], prod(target)] <= steady.count
    }


def _issued(run: Run, steady: Steady, pattern: re.Pattern[str]) -> list[int]:
    """Operators with such names that forward issues in the steady steps."""
    rows = steady.issued(run, rows_matching(run.trace, pattern, run.trace.rows(Category.CPU_OP)))
    forward: list[int] = rows[~in_backward(run, rows)].tolist()
    return forward


def _target(args: EventArgs | None) -> tuple[int, ...] | None:
    """What one value in each row is scattered into."""
    target, at = (args.shape(position) if args is not None else None for position in (0, _INDEX))
    return target if target and at == (*target[:-1], 1) else None


def _result(args: EventArgs | None) -> tuple[int, int] | None:
    """Columns and elements of what a product makes."""
    factors = [s for i in range(_INDEX + 1) if args is not None and (s := args.shape(i)) and len(s) >= _LOGITS_DIMS][
        -2:
    ]
    return (factors[1][-1], prod(factors[0][:-1]) * factors[1][-1]) if len(factors) == _LOGITS_DIMS else None


def _filled(run: Run) -> set[tuple[int, ...] | None]:
    """Sizes of tensors that are filled with a value, not with zeros: those are filled by an operator inside of `zero_`."""
    rows = rows_matching(run.trace, _FILL, run.trace.rows(Category.CPU_OP))
    outer = run.ops.parent[rows]
    zeros = np.array([run.trace.names[name] in _ZERO for name in run.trace.events.name[outer].tolist()], np.bool_) & (
        outer >= 0
    )
    args = distinct(run.trace.events.args[rows[~zeros]])
    return {run.trace.args[index].shape(0) for index in args.tolist() if index >= 0}


def _longest(run: Run, entries: Mask) -> int:
    entry = np.flatnonzero(entries)
    rows = np.where(run.launches.op[entry] >= 0, run.launches.op[entry], run.activity.row[entry])
    length = (run.activity.end - run.activity.start)[entry] * np.where(in_backward(run, rows), 0.0, 1.0)
    return int(rows[np.argmax(length)])


def _arguments(run: Run, pattern: re.Pattern[str]) -> list[int]:
    """Distinct recorded arguments of the operators with such names."""
    rows = rows_matching(run.trace, pattern, run.trace.rows(Category.CPU_OP))
    found = distinct(run.trace.events.args[rows])
    return [int(index) for index in found if index >= 0]


def _shapes(run: Run, largest: list[tuple[int, ...]], pattern: re.Pattern[str]) -> set[tuple[int, ...]]:
    return {largest[index] for index in _arguments(run, pattern)} - {()}


def _made(run: Run) -> Iterator[tuple[int, float]]:
    """Columns of what each matmul makes, and bytes of one element."""
    for pattern, position, axis in _PRODUCTS:
        for index in _arguments(run, pattern):
            args = run.trace.args[index]
            right = args.shape(position)
            if right is not None:
                yield right[axis], element_bytes(args.type_of(position)) or 4.0


def _entries(run: Run, wide: list[bool]) -> Mask:
    """Entries of operators on tensors as wide as the logits, matmuls and the optimizer left out."""
    by_args = np.array([*wide, False], np.bool_)  # the last one serves -1: unknown
    args = np.where(run.launches.op >= 0, run.trace.events.args[np.maximum(run.launches.op, 0)], -1)
    others = ~run.kernels.matmul_like & ~run.kernels.is_kind("optimizer", "embedding")
    found: Mask = by_args[args] & others & (run.activity.kind == COMPUTE)
    return found


def _is_wide(shape: tuple[int, ...], tokens: int, vocabulary: int) -> bool:
    if not shape or (len(shape) == _LOGITS_DIMS and shape[0] == vocabulary):
        return False  # the weight of the last layer
    count = prod(shape)
    return count == tokens * vocabulary or (shape[-1] == vocabulary and count >= _MOST_OF * tokens * vocabulary)
