"""Tables that are looked up far more often than they have rows, and whose looked-up rows go into a product right away.

Relative positions are such a case: a row of the table for every pair of positions, T x T rows of a table of 2 T. The product with
the table itself gives the same numbers: the rows of the result are looked up instead (scores of queries), or the factors that
belong to one row are added up first (weights of an attention).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.as_matmuls import AsMatmuls, Replaced, as_matmuls_of
from mfu_doctor.analysis.evidence.attribution import shapes_of
from mfu_doctor.analysis.evidence.read_again import is_read_again
from mfu_doctor.analysis.evidence.steady_steps import Rows, outermost
from mfu_doctor.analysis.names.vocabulary import LABEL, VIEW, ids_matching, rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.arrays.distinct import without
from mfu_doctor.devices.dtypes import DTYPES, element_bytes, short_dtype
from mfu_doctor.trace import Category

_LOOKUP = re.compile(r"^aten::(embedding|index_select|index)$")
_PRODUCT = re.compile(r"^aten::(einsum|matmul|bmm|mm)$")
# A layer's product of looked-up rows (`table[x] @ w`) is none of these: its rows are the model's input, and used elsewhere.
_MATMUL = re.compile(r"^aten::bmm$")
_TIMES_ROWS = 4  # so many more indices than rows: a lookup of fewer is not what takes the time
_NEAR = 8  # calls between the lookup and what reads it, which make the other factor
# The product with the table may be so many times the FLOPs: a table of 2 T distances, of which each position meets T.
_TIMES_FLOPS = 2.0


class ExpandedTable(Struct, frozen=True):
    """A lookup and the product that reads it.

    Attributes:
        rows: both operators.
        table: rows and width of the table.
        indices: how many rows are looked up.
        scores: whether the product sums over the width, and gives a score for each index; else it sums over the indices.
        dtype: short name of the table's dtype.
        flops, bytes: what the product with the table itself takes.
    """

    rows: tuple[int, int]
    table: tuple[int, int]
    indices: int
    scores: bool
    dtype: str
    flops: float
    bytes: float


class _Lookup(Struct, frozen=True):
    table: tuple[int, int]
    indices: int
    dtype: str
    size: float

    @property
    def elements(self) -> int:
        return self.indices * self.table[1]


def expanded_tables_of(run: Run) -> tuple[tuple[ExpandedTable, ...], AsMatmuls] | None:
    """The lookups of forward that a product reads at once, and the products with their tables; None if there are none."""
    calls = run.trace.rows(Category.CPU_OP)
    calls = outermost(run, without(calls, rows_matching(run.trace, LABEL, calls)))
    calls = without(calls, rows_matching(run.trace, VIEW, calls))
    found: list[ExpandedTable] = []
    for _, mine in groups(run.trace.events.track[calls]):
        here = calls[mine]
        found += _on_thread(run, here[np.argsort(run.trace.events.start[here], kind="stable")])
    work = as_matmuls_of(run, [Replaced(x.rows, x.flops, x.bytes) for x in found]) if found else None
    return None if work is None else (tuple(found), work)


def _on_thread(run: Run, calls: Rows) -> list[ExpandedTable]:
    """The lookups among the calls of a thread, in time order."""
    found: list[ExpandedTable] = []
    for at in np.flatnonzero(np.isin(calls, rows_matching(run.trace, _LOOKUP, calls))).tolist():
        row, lookup = int(calls[at]), _lookup(run, int(calls[at]))
        if lookup is None:
            continue
        reader = _reader(run, calls[at + 1 : at + 1 + _NEAR], lookup.elements)
        one = _product(run, row, reader, lookup) if reader is not None else None
        later = calls[run.trace.events.start[calls] > run.trace.events.start[reader]] if one is not None else calls[:0]
        if one is not None and not is_read_again(run, later, lookup.elements, _is_lookup(run)):
            found.append(one)
    return found


def _is_lookup(run: Run) -> Callable[[int], bool]:
    names = ids_matching(run.trace, _LOOKUP)
    return lambda row: bool(np.isin(run.trace.events.name[row], names))


def _lookup(run: Run, row: int) -> _Lookup | None:
    """The table and the number of indices of a lookup; None if it has not many more than the table has rows."""
    args, shapes = run.trace.args_of(row), shapes_of(run, row)
    dtype = short_dtype(args.type_of(0)) if args is not None else None
    if args is None or len(shapes) != 2 or len(shapes[0]) != 2 or dtype not in DTYPES:
        return None
    if run.trace.name_of(row) == "aten::index_select" and args.printed(1) != 0:
        return None
    (rows, width), indices = shapes[0], prod(shapes[1])
    if indices < _TIMES_ROWS * rows:
        return None
    return _Lookup((rows, width), indices, dtype, element_bytes(args.type_of(0)) or 0.0)


def _reader(run: Run, calls: Rows, elements: int) -> int | None:
    """The first of these calls that reads so many elements, if it is a product."""
    for row in calls.tolist():
        if any(prod(shape) == elements for shape in shapes_of(run, row)):
            return row if len(rows_matching(run.trace, _PRODUCT, np.array([row]))) else None
    return None


def _product(run: Run, row: int, reader: int, lookup: _Lookup) -> ExpandedTable | None:
    """The product with the looked-up rows; None if the table itself would not do, or takes much more."""
    factors = _factors(run, reader)
    if factors is None or lookup.elements not in (prod(factors[0]), prod(factors[1])):
        return None
    left, right = factors
    (rows, width), summed = lookup.table, left[-1]
    other = prod(right if prod(left) == lookup.elements else left)
    result = prod(left) // summed * right[-1]
    scores = summed == width
    if not scores and width not in (left[-2], right[-1]):
        return None
    narrow, wide = (other, result) if scores else (result, other)
    flops = 2.0 * narrow * rows
    if flops > _TIMES_FLOPS * 2.0 * result * summed:
        return None
    between = narrow // width * rows  # scores of all rows of the table, written and read again
    moved = narrow + rows * width + 2 * between + wide
    return ExpandedTable((row, reader), lookup.table, lookup.indices, scores, lookup.dtype, flops, lookup.size * moved)


def _factors(run: Run, product: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Shapes of the factors of the only matmul that an operator is, or runs."""
    start, end = run.trace.events.start, run.trace.events.end
    rows = rows_matching(run.trace, _MATMUL, run.trace.rows(Category.CPU_OP))
    inside = rows[(start[rows] >= start[product]) & (end[rows] <= end[product])]
    inside = inside[run.trace.events.track[inside] == run.trace.events.track[product]]
    shapes = shapes_of(run, int(inside[0])) if len(inside) == 1 else ()
    return (shapes[0], shapes[1]) if len(shapes) == 2 else None
