"""Sums of products that are written with broadcasting: every product is stored, and a sum reads them all again right after.

`(q[:, :, None] * k[:, None]).sum(-1)` and `((a[:, None] - b) ** 2).sum(-1)` make a tensor that is many times larger than their
operands. A matmul computes the same sums and never stores the products.
"""

from __future__ import annotations

import re
import string
from math import prod

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.as_matmuls import AsMatmuls, Replaced, as_matmuls_of
from mfu_doctor.analysis.evidence.read_again import is_read_again
from mfu_doctor.analysis.evidence.steady_steps import Rows, calls_beside
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.devices.dtypes import DTYPES, element_bytes, short_dtype

_BROADCASTING = re.compile(r"^aten::(mul|multiply|sub|subtract)$")
_DIFFERENCE = ("aten::sub", "aten::subtract")
_NORM = ("aten::norm", "aten::linalg_norm", "aten::linalg_vector_norm")
_SUM = ("aten::sum", "aten::mean")
_SOFTMAX = re.compile(r"^aten::_?softmax$")
# The products are so many times more than the elements of either operand. One operand of the same size (a mask, weights of rows)
# is read as often as the products; a matmul would spare little.
_TIMES_LARGER = 4
# Dropout, a mask and casts may stand between a softmax and the product with its result.
_NEAR = 4


class BroadcastProduct(Struct, frozen=True):
    """Products that are summed at once, as one call of the program.

    Attributes:
        rows: operators from the one that broadcasts to the sum.
        left, right: shapes of the operands.
        stored: how many products are stored.
        subscripts: the same sum as einsum writes it; None if the trace does not tell which dimensions are summed.
        is_distance: whether they are squares of differences.
        after_softmax: whether a softmax made one operand: an attention.
        dtype: short name of the operands' dtype.
        size: bytes of an element.
    """

    rows: tuple[int, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    stored: int
    subscripts: str | None
    is_distance: bool
    after_softmax: bool
    dtype: str
    size: float


def broadcast_products_of(run: Run) -> tuple[tuple[BroadcastProduct, ...], AsMatmuls] | None:
    """The products of forward that are summed at once, and matmuls in their place; None if there are none."""
    found = [product for calls in calls_beside(run, _BROADCASTING) for product in _on_thread(run, calls)]
    work = as_matmuls_of(run, [Replaced(x.rows, 2.0 * x.stored, x.size * _moved(x)) for x in found]) if found else None
    return None if work is None else (tuple(found), work)


def _on_thread(run: Run, calls: Rows) -> list[BroadcastProduct]:
    """The products among the calls of a thread, in time order."""
    found: list[BroadcastProduct] = []
    for at in np.flatnonzero(np.isin(calls, rows_matching(run.trace, _BROADCASTING, calls))).tolist():
        before = calls[max(at - _NEAR, 0) : at]
        weights = {prod(_shape(run, row)) for row in rows_matching(run.trace, _SOFTMAX, before).tolist()}
        one = _product(run, calls[at : at + 3].tolist(), weights)
        if one is not None and not _is_read_again(run, calls[at + len(one.rows) :], one):
            found.append(one)
    return found


def _is_read_again(run: Run, later: Rows, one: BroadcastProduct) -> bool:
    """Whether what the first operator makes is needed for something else as well: differences of positions, say."""

    def makes(row: int) -> bool:
        named = len(rows_matching(run.trace, _BROADCASTING, np.array([row]))) > 0
        left, right = _shape(run, row), _shape(run, row, 1)
        return named and max(prod(left), prod(right)) < prod(_broadcast(left, right)) == one.stored

    return is_read_again(run, later, one.stored, makes)


def _product(run: Run, calls: list[int], weights: set[int]) -> BroadcastProduct | None:
    """The product that the first of these calls makes, if the calls after it sum it.

    `weights`: sizes of what a softmax has just made.
    """
    args = run.trace.args_of(calls[0])
    left, right = _shape(run, calls[0]), _shape(run, calls[0], 1)
    shape, dtype = _broadcast(left, right), short_dtype(args.type_of(0)) if args is not None else None
    if args is None or dtype not in DTYPES or prod(shape) < _TIMES_LARGER * max(prod(left), prod(right)):
        return None
    last = _summing(run, calls, shape)
    if last is None:
        return None
    if last.is_distance and not _both_have(left, right, last.dimensions):
        return None
    return BroadcastProduct(
        last.rows,
        left,
        right,
        prod(shape),
        _subscripts(left, right, last.dimensions),
        last.is_distance,
        bool(weights & {prod(left), prod(right)}),
        dtype,
        element_bytes(args.type_of(0)) or 0.0,
    )


class _Sum(Struct, frozen=True):
    """How products are summed: the calls from the broadcasting one on, and the dimensions if they are known."""

    rows: tuple[int, ...]
    dimensions: tuple[int, ...] | None
    is_distance: bool


def _summing(run: Run, calls: list[int], shape: tuple[int, ...]) -> _Sum | None:
    """How the calls after the first one sum what it made; None if they do not."""
    names = [run.trace.name_of(row) for row in calls]
    is_distance = names[0] in _DIFFERENCE
    if not is_distance:
        last = 1 if names[1:2] and names[1] in _SUM else None
    elif names[1:2] and names[1] in _NORM:
        last = 1 if _is_two(run, calls[1], "") else None
    else:
        squared = names[1:2] == ["aten::square"] or (names[1:2] == ["aten::pow"] and _is_two(run, calls[1]))
        last = 2 if squared and names[2:] and names[2] in _SUM else None
    if last is None or any(_shape(run, row) != shape for row in calls[1 : last + 1]):
        return None
    args = run.trace.args_of(calls[last])
    given = args.printed(2 if names[last] in _NORM else 1) if args is not None else None
    dimensions = (given,) if type(given) is int else given
    dims = tuple(d % len(shape) for d in dimensions) if isinstance(dimensions, tuple) and dimensions else None
    return _Sum(tuple(calls[: last + 1]), dims, is_distance)


def _is_two(run: Run, row: int, *others: str) -> bool:
    """Whether the exponent of a power or a norm is printed as 2, or as one of these texts."""
    args = run.trace.args_of(row)
    printed = args.concrete[1] if args is not None and args.concrete is not None and len(args.concrete) > 1 else None
    return printed in ("2", "2.", "2.0", *others)


def _shape(run: Run, row: int, at: int = 0) -> tuple[int, ...]:
    """Shape of an argument; () if it is none, or if it is not known."""
    args = run.trace.args_of(row)
    return (args.shape(at) if args is not None else None) or ()


def _broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of what an operator makes of two tensors."""
    longest = max(len(left), len(right))
    return tuple(b if a == 1 else a for a, b in zip(_padded(left, longest), _padded(right, longest), strict=True))


def _padded(shape: tuple[int, ...], length: int) -> tuple[int, ...]:
    return (1,) * (length - len(shape)) + shape


def _both_have(left: tuple[int, ...], right: tuple[int, ...], summed: tuple[int, ...] | None) -> bool:
    """Whether the summed dimensions are known, and neither operand is broadcast over one."""
    longest = max(len(left), len(right))
    sizes = tuple(zip(_padded(left, longest), _padded(right, longest), strict=True))
    return summed is not None and all(sizes[at][0] == sizes[at][1] for at in summed)


def _subscripts(left: tuple[int, ...], right: tuple[int, ...], summed: tuple[int, ...] | None) -> str | None:
    """The sum as einsum writes it, without the dimensions that an operand is broadcast over: "abce,abde->abcd"."""
    shape = _broadcast(left, right)
    if summed is None or len(shape) > len(string.ascii_lowercase):
        return None
    letters = string.ascii_lowercase[: len(shape)]

    def of(operand: tuple[int, ...]) -> str:
        sizes = zip(letters, _padded(operand, len(shape)), shape, strict=True)
        return "".join(letter for letter, own, whole in sizes if own == whole)

    return f"{of(left)},{of(right)}->{''.join(x for at, x in enumerate(letters) if at not in summed)}"


def _moved(one: BroadcastProduct) -> float:
    """Elements that a matmul reads and writes at least."""
    if one.subscripts is None:
        return float(prod(one.left) + prod(one.right))
    shape = _broadcast(one.left, one.right)
    letters = one.subscripts.partition("->")[2]
    return float(prod(one.left) + prod(one.right) + prod(shape[string.ascii_lowercase.index(x)] for x in letters))
