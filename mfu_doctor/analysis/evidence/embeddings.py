"""Embedding tables with dense gradients: their size, how many of their rows a batch uses, and what processes all rows.

A dense gradient is as large as its table. Most of the work to write its zeros, to add it to that of another lookup and to update
the table concerns rows that the batch does not use. Adding up the rows of the batch remains in any case.
"""

from __future__ import annotations

import re
from collections import Counter
from math import prod

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import calls_of, owner_of
from mfu_doctor.analysis.evidence.optimizer import optimizer_of
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, Steady, under
from mfu_doctor.analysis.names.autograd import ACCUMULATE_CALL, NODE_CALL
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COPY
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.trace import Category

DENSE = re.compile(r"^aten::(embedding_dense_backward|_embedding_bag_dense_backward)$")
_ZEROING = re.compile(r"^aten::(zero_|fill_|zeros)$")
_SUM = re.compile(r"^aten::add_?$")
# The engine adds what a second lookup of a table gives while it calls that lookup's node, or adds it to what is in .grad.
# A weight of a product that has the shape of a table has an AccumulateGrad too.
_IN_LOOKUP = re.compile(rf"{NODE_CALL.pattern}Embedding\w*Backward\d+$")
_IN_TABLE = re.compile(rf"{_IN_LOOKUP.pattern}|{ACCUMULATE_CALL.pattern}")
_PRODUCT = re.compile(r"^aten::(mm|addmm|linear|matmul)$")
# Position of num_weights among the arguments (native_functions.yaml of PyTorch).
_ROWS_IN_TABLE = {"aten::embedding_dense_backward": 2, "aten::_embedding_bag_dense_backward": 5}


class DenseTables(Struct, frozen=True):
    """Tables with dense gradients in a run.

    Attributes:
        calls: host rows of the gradients, all steps.
        zeroing: entries of the activity table that write a gradient's zeros, shape (n,).
        adding: entries that add up the rows of the batch, shape (n,).
        summing: entries that add whole gradients of a table which is looked up several times, shape (n,).
        tables: (rows of the table, width, indices of the batch) of each size of table; empty if shapes were not recorded. Several
            lookups per step in tables of one size count as lookups in one table: a table that is used twice is the usual case.
        lookups: per step in all tables.
        optimizer_rows: device rows of the optimizer that walk over a table.
        in_tables: for each of them the part of its elements that belongs to these tables.
        tied: whether a matmul has the shape of a table too, so that its weight may be shared with the output layer.
    """

    calls: Rows
    zeroing: Mask
    adding: Mask
    summing: Mask
    tables: tuple[tuple[int, int, int], ...]
    lookups: float
    optimizer_rows: Rows
    in_tables: npt.NDArray[np.float64]
    tied: bool

    @property
    def touched(self) -> float:
        """Indices of a batch over rows of the tables, at most 1: the share of the rows that have a gradient."""
        rows = sum(rows for rows, _, _ in self.tables)
        return min(sum(min(batch, rows) for rows, _, batch in self.tables) / rows, 1.0) if rows else 1.0

    @property
    def elements(self) -> int:
        """Elements of all tables."""
        return sum(rows * width for rows, width, _ in self.tables)


def dense_tables(run: Run, steady: Steady) -> DenseTables | None:
    """The tables with dense gradients, or None if there are none."""
    calls = calls_of(run, DENSE)
    if not len(calls):
        return None
    owned = owner_of(run, DENSE) >= 0
    zeroing = owned & ((owner_of(run, _ZEROING) >= 0) | (run.activity.kind == COPY))  # a memset is of kind copy
    each = steady.issued(run, calls)
    known = [t for row in each.tolist() if (t := _lookup(run, row)) is not None]
    often = Counter((rows, width) for rows, width, _ in known)
    looked_up = Counter[tuple[int, int]]()
    for *size, batch in known:
        looked_up[size[0], size[1]] += batch
    tables = tuple((*table, round(steady.per_step(looked_up[table]))) for table in sorted(often))
    rows, part = _optimizer(run, steady, set(often))
    tied = _is_tied(run, set(often))
    again = {size for size, count in often.items() if steady.per_step(count) > 1}
    return DenseTables(
        calls=calls,
        zeroing=zeroing,
        adding=owned & ~zeroing,
        summing=_summing(run, again, _IN_LOOKUP if tied else _IN_TABLE),
        tables=tables,
        lookups=steady.per_step(len(each)),
        optimizer_rows=rows,
        in_tables=part,
        tied=tied,
    )


def _summing(run: Run, sizes: set[tuple[int, int]], within: re.Pattern[str]) -> Mask:
    """Entries of additions of tensors with the shape of a table, inside of these calls of nodes."""
    adds = rows_matching(run.trace, _SUM, run.trace.rows(Category.CPU_OP))
    adds = adds[under(run, adds, within) >= 0]
    told = run.trace.events.args[adds]
    of_table = [i for i in np.unique(told).tolist() if i >= 0 and run.trace.args[i].shape(0) in sizes]
    return np.isin(owner_of(run, _SUM), adds[np.isin(told, of_table)])


def _lookup(run: Run, row: int) -> tuple[int, int, int] | None:
    """Rows and width of the table, and indices of the batch, of one gradient."""
    args = run.trace.args_of(row)
    gradient = args.shape(0) if args is not None else None
    indices = args.shape(1) if args is not None else None
    known = args.printed(_ROWS_IN_TABLE[run.trace.name_of(row)]) if args is not None else None
    if gradient is None or indices is None or not isinstance(known, int):
        return None
    return known, gradient[-1], prod(indices)


def _optimizer(run: Run, steady: Steady, sizes: set[tuple[int, int]]) -> tuple[Rows, npt.NDArray[np.float64]]:
    """Device rows of the optimizer whose first operand is a table, or a list with tables in it."""
    optimizer = optimizer_of(run, steady) if sizes else None
    if optimizer is None:
        return np.empty(0, np.int64), np.empty(0, np.float64)
    entry = np.flatnonzero(optimizer.entries)
    rows, first = np.unique(run.activity.row[entry], return_index=True)
    args = run.trace.events.args[np.maximum(run.launches.op[entry[first]], 0)]
    part_of = {int(a): _part(run, int(a), sizes) for a in distinct(args).tolist()}
    part = np.array([part_of[int(a)] for a in args.tolist()], np.float64)
    return rows[part > 0], part[part > 0]


def _part(run: Run, index: int, sizes: set[tuple[int, int]]) -> float:
    """Part of the elements of an operator's first argument (a tensor or a list of them) that lies in tables."""
    if index < 0:
        return 0.0
    args = run.trace.args[index]
    single = args.shape(0)
    tensors = (single,) if single is not None else args.shapes(0)
    total = sum(prod(t) for t in tensors)
    return sum(prod(t) for t in tensors if t in sizes) / total if total else 0.0


def _is_tied(run: Run, sizes: set[tuple[int, int]]) -> bool:
    either = sizes | {(width, rows) for rows, width in sizes}
    products = rows_matching(run.trace, _PRODUCT, run.trace.rows(Category.CPU_OP))
    kinds = distinct(run.trace.events.args[products])
    known = [run.trace.args[int(i)] for i in kinds.tolist() if i >= 0]
    return any(args.shape(position) in either for args in known for position in range(3))
