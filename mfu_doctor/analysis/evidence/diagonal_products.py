"""Matmuls of which one factor is a diagonal matrix that was just made of a vector: D @ A, and D @ A @ D.

The factor is known where the matmul follows the making of the matrix at once, and has a square factor of its size.
"""

from __future__ import annotations

import re

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import spans_of_rows, work_in
from mfu_doctor.analysis.evidence.backward import maker_of, node_calls
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, calls_beside
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.trace import Category

_MAKING = re.compile(r"^aten::diag(_embed)?$")
_PRODUCT = re.compile(r"^aten::(matmul|mm|bmm)$")


class DiagonalProducts(Struct, frozen=True):
    """Such matmuls of all steps.

    Attributes:
        rows: calls of the matmuls.
        made: calls that make the diagonal matrices.
        making: entries of the activity table that make the diagonal matrices, shape (n,).
        first: the same, of the matmuls right after one.
        second: the same, of those right after a first one whose factors are both square: the right side of D @ A @ D.
        learned: whether a gradient flows through one of them.
    """

    rows: Rows
    made: Rows
    making: Mask
    first: Mask
    second: Mask
    learned: bool


def diagonal_products_of(run: Run) -> DiagonalProducts | None:
    """The matmuls with a diagonal matrix; None if there are none."""
    making, first, second = [], [], []
    for here in calls_beside(run, _MAKING):
        is_product = np.isin(here, rows_matching(run.trace, _PRODUCT, here))
        for at in np.flatnonzero(np.isin(here, rows_matching(run.trace, _MAKING, here))).tolist():
            size = _size(run, int(here[at]))
            after = here[at + 1 : at + 3][is_product[at + 1 : at + 3].cumprod() > 0].tolist()
            if size is None or not after or not any(_square(run, after[0], size)):
                continue
            making.append(here[at])
            first.append(after[0])
            second += [row for row in after[1:] if all(_square(run, row, size))]
    if not making:
        return None
    products = np.array(first + second, np.int64)
    made = np.array(making, np.int64)
    return DiagonalProducts(
        products, made, _work(run, making), _work(run, first), _work(run, second), _learned(run, products)
    )


def _size(run: Run, row: int) -> int | None:
    """Rows of the matrix that is made of a vector; None if a diagonal is read, or sizes are unknown."""
    args = run.trace.args_of(row)
    shape = args.shape(0) if args is not None else None
    if not shape or (len(shape) > 1 and run.trace.name_of(row) == "aten::diag"):
        return None
    return shape[-1]


def _square(run: Run, row: int, size: int) -> tuple[bool, bool]:
    """Whether the left and the right factor are square matrices of this size."""
    args = run.trace.args_of(row)
    left, right = (args.shape(0), args.shape(1)) if args is not None else (None, None)
    return (left or ())[-2:] == (size, size), (right or ())[-2:] == (size, size)


def _work(run: Run, rows: list[int]) -> Mask:
    return work_in(run, spans_of_rows(run, np.array(rows, np.int64)))


def _learned(run: Run, products: Rows) -> bool:
    makers = maker_of(run, node_calls(run, run.trace.rows(Category.CPU_OP)))
    makers = makers[makers >= 0]
    makers = makers[np.isin(makers, rows_matching(run.trace, _PRODUCT, makers))]
    return bool(spans_of_rows(run, products).contains(run.trace.events.start[makers]).any())
