"""Factorizations, solves and determinants of matrices that are diagonal: made of a vector, and given on as they are.

The matrix is known where nothing but views and comparisons (is it symmetric?) is between its making and the call. Where a matrix
of that size is factorized otherwise, too (a kernel with noise on its diagonal), none is judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import spans_of_rows, work_in
from mfu_doctor.analysis.evidence.backward import maker_of, node_calls
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, outermost
from mfu_doctor.analysis.names.vocabulary import VIEW, rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.groups import on_each
from mfu_doctor.arrays.distinct import without
from mfu_doctor.trace import Category

_MAKING = re.compile(r"^aten::(diag(_embed)?|eye)$")
_FACTORS = re.compile(
    r"^aten::(linalg_)?(cholesky(_ex)?|inv(erse|_ex)?|lu_factor(_ex)?|ldl_factor(_ex)?|eigh|eigvalsh|svd|svdvals|qr|det|logdet|slogdet)$"
)
_SOLVES = re.compile(
    r"^aten::(linalg_)?(solve(_ex)?|solve_triangular|triangular_solve|cholesky_solve|cholesky_inverse|lu_solve)$"
)
_COMPARES = re.compile(r"^aten::(isclose|allclose|eq|equal|all|isfinite|contiguous|clone|copy_|to|_to_copy)$")
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
    ops = run.trace.rows(Category.CPU_OP)
    calls = outermost(run, ops)
    calls = without(calls, rows_matching(run.trace, VIEW, calls))
    found: dict[int, _Shape] = {}
    around: list[int] = []
    track = run.trace.events.track
    for _, mine in on_each(track[rows_matching(run.trace, _MAKING, calls)], track[calls]):
        here = calls[mine]
        here = here[np.argsort(run.trace.events.start[here], kind="stable")].tolist()
        for making, used in _matrices(run, here):
            factors = {row: shape for row, shape in used.items() if not _COMPARES.match(run.trace.name_of(row))}
            found |= factors
            around += [making, *(used.keys() - factors.keys())] if factors else []
    if not found:
        return None
    sizes = {shape[-1] for shape in found.values()} - _others(run, calls, found)
    rows = [row for row, shape in found.items() if shape[-1] in sizes]
    solves = [
        row
        for row in rows_matching(run.trace, _SOLVES, calls).tolist()
        if row not in found and any(shape[-1] in sizes for shape in _squares(run, row)[:1])
    ]
    if not rows:
        return None
    every = np.array(sorted((*rows, *solves)), np.int64)
    return DiagonalFactorizations(
        every,
        _with_backward(run, ops, every),
        _with_backward(run, ops, np.array(sorted(around), np.int64)),
        max(sizes),
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
    """Calls that compare or factorize the matrix before anything else is done with one of its size, with its shape."""
    sizes = {shape[-1] for shape in _shapes(run, making)[:1] if shape}  # eye tells none
    for row in after:
        squares = [shape for shape in _squares(run, row) if not sizes or shape[-1] in sizes]
        if not squares:
            continue
        name = run.trace.name_of(row)
        if not (_FACTORS.match(name) or _SOLVES.match(name) or _COMPARES.match(name)):
            return
        sizes = {squares[0][-1]}
        yield row, squares[0]


def _others(run: Run, calls: Rows, found: dict[int, _Shape]) -> set[int]:
    """Sizes of matrices that are factorized without having been made of a vector."""
    rows = (row for row in rows_matching(run.trace, _FACTORS, calls).tolist() if row not in found)
    return {shape[-1] for row in rows for shape in _squares(run, row)[:1]}


def _shapes(run: Run, row: int) -> list[_Shape]:
    args = run.trace.args_of(row)
    shapes = [args.shape(i) for i in range(2)] if args is not None else []
    return [shape for shape in shapes if shape]


def _squares(run: Run, row: int) -> list[_Shape]:
    return [shape for shape in _shapes(run, row) if len(shape) > 1 and shape[-1] == shape[-2] > 1]


def _with_backward(run: Run, ops: Rows, rows: Rows) -> Mask:
    """Entries of these calls and of the nodes that they added."""
    nodes = node_calls(run, ops)
    makers = maker_of(run, nodes)
    inside = spans_of_rows(run, rows).contains(run.trace.events.start[np.maximum(makers, 0)]) & (makers >= 0)
    return work_in(run, spans_of_rows(run, np.concatenate((rows, nodes[inside]))))
