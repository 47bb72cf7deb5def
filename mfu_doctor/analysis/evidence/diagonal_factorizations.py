"""Factorizations, solves and determinants of matrices that are diagonal: made of a vector, and given on as they are.

The matrix is known where nothing but views and comparisons (is it symmetric?) is between its making and the call: nothing that
could make another matrix of its size. Where one is factorized otherwise, too (a kernel with noise on its diagonal), none is
judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import spans_of_rows, work_in
from mfu_doctor.analysis.evidence.backward import maker_of, node_calls
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, calls_beside
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.trace import Category

_MAKING = re.compile(r"^aten::(diag(_embed)?|eye)$")
_FACTORS = re.compile(
    r"^aten::(linalg_)?(cholesky(_ex)?|inv(erse|_ex)?|lu_factor(_ex)?|ldl_factor(_ex)?|eigh|eigvalsh|svd|svdvals|qr|det|logdet|slogdet)$"
)
_SOLVES = re.compile(
    r"^aten::(linalg_)?(solve(_ex)?|solve_triangular|triangular_solve|cholesky_solve|cholesky_inverse|lu_solve)$"
)
# What is asked of a matrix and of its vector: is it symmetric, is all of it positive? No other matrix comes of that.
_BETWEEN = re.compile(
    r"^aten::(isclose|allclose|eq|ne|gt|ge|lt|le|equal|all|any|_is_all_true|is_nonzero|item|isfinite|logical_\w+|full|empty\w*"
    r"|contiguous|clone|copy_|to|_to_copy)$"
)
_FARTHEST = 50  # calls from the making to the factorization

_Shape = tuple[int, ...]


class DiagonalFactorizations(Struct, frozen=True):
    """Those of all steps.

    Attributes:
        rows: their calls.
        work: entries of the activity table of these calls and of their backward, shape (n,).
        around: the same, of what makes and compares these matrices, shape (n,).
        size: rows of the largest of them.
    """

    rows: Rows
    work: Mask
    around: Mask
    size: int


def diagonal_factorizations_of(run: Run) -> DiagonalFactorizations | None:
    """The factorizations of diagonal matrices; None if there are none."""
    found: dict[int, _Shape] = {}
    around: list[int] = []
    factors, solves = [], []
    for calls in calls_beside(run, _MAKING):
        factors += rows_matching(run.trace, _FACTORS, calls).tolist()
        solves += rows_matching(run.trace, _SOLVES, calls).tolist()
        for making, used in _matrices(run, calls.tolist()):
            used_up = {row: shape for row, shape in used.items() if not _BETWEEN.match(run.trace.name_of(row))}
            found |= used_up
            around += [making, *(used.keys() - used_up.keys())] if used_up else []
    others = {shape for row in factors if row not in found for shape in _squares(run, row)[:1]}
    shapes = {shape for shape in found.values() if shape[-1] not in {other[-1] for other in others}}
    rows = [row for row, shape in found.items() if shape in shapes]
    rows += [row for row in solves if row not in found and any(shape in shapes for shape in _squares(run, row)[:1])]
    if not rows:
        return None
    every = np.array(sorted(rows), np.int64)
    return DiagonalFactorizations(
        every,
        _with_backward(run, every),
        _with_backward(run, np.array(sorted(around), np.int64)),
        max(shape[-1] for shape in shapes),
    )


def _matrices(run: Run, calls: list[int]) -> Iterator[tuple[int, dict[int, _Shape]]]:
    """Each call that makes a matrix of a vector, and those that are given it, among calls in the order of time."""
    for at, row in enumerate(calls):
        if _MAKING.match(run.trace.name_of(row)) and not _reads(run, row):
            yield row, dict(_given_to(run, row, calls[at + 1 : at + 1 + _FARTHEST]))


def _reads(run: Run, row: int) -> bool:
    """Whether diag reads the diagonal of a matrix."""
    shapes = _shapes(run, row)
    return run.trace.name_of(row) == "aten::diag" and bool(shapes) and len(shapes[0]) > 1


def _given_to(run: Run, making: int, after: list[int]) -> Iterator[tuple[int, _Shape]]:
    """Calls that compare or factorize the matrix before anything else is done that could make another one of its size."""
    sizes = {shape[-1] for shape in _shapes(run, making)[:1]}  # eye tells none
    for row in after:
        name, squares = run.trace.name_of(row), _squares(run, row)
        if not (_FACTORS.match(name) or _SOLVES.match(name) or _BETWEEN.match(name) or _is_of_vectors(run, row)):
            return
        squares = [shape for shape in squares if not sizes or shape[-1] in sizes]
        if squares:
            sizes = {squares[0][-1]}
            yield row, squares[0]


def _is_of_vectors(run: Run, row: int) -> bool:
    """Whether it takes the difference of tensors of one shape, as that from the mean: no matrix comes of it."""
    shapes = _shapes(run, row)
    return run.trace.name_of(row) == "aten::sub" and len(set(shapes)) == 1 and not _squares(run, row)


def _shapes(run: Run, row: int) -> list[_Shape]:
    args = run.trace.args_of(row)
    shapes = [args.shape(i) for i in range(2)] if args is not None else []
    return [shape for shape in shapes if shape]


def _squares(run: Run, row: int) -> list[_Shape]:
    return [shape for shape in _shapes(run, row) if len(shape) > 1 and shape[-1] == shape[-2] > 1]


def _with_backward(run: Run, rows: Rows) -> Mask:
    """Entries of these calls and of the nodes that they added."""
    nodes = node_calls(run, run.trace.rows(Category.CPU_OP))
    makers = maker_of(run, nodes)
    inside = spans_of_rows(run, rows).contains(run.trace.events.start[np.maximum(makers, 0)]) & (makers >= 0)
    return work_in(run, spans_of_rows(run, np.concatenate((rows, nodes[inside]))))
