"""Operators that go through parameters outside of autograd and of torch's optimizers: an update by hand, an average, copies.

Each operator reads and writes all of a tensor. An update that is one pass over its tensors reads each of them once.
"""

from __future__ import annotations

import re
from collections import Counter
from math import prod

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import shapes_of, spans_of_rows, work_in
from mfu_doctor.analysis.evidence.backward import in_backward, in_graph
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, Steady, outermost
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import numbered_together, without
from mfu_doctor.trace import Category

_GRADIENT = re.compile(r"^torch::autograd::AccumulateGrad$")
_ROOT = re.compile(r"^aten::r?sqrt_?$")
# A product of square matrices has tensors of one shape only, and is no pass over them.
_PRODUCTS = re.compile(r"^aten::(mm|addmm|bmm|baddbmm|matmul|linear|einsum)$")
_VIEWS = re.compile(r"^aten::(detach_?|alias|view|t|result_type|empty\w*|requires_grad_|is_\w+|resolve_\w+)$")
_FLOAT_BYTES = 4
_LEAST_SIZE = 1024  # elements of a parameter: smaller ones take no time worth a word
# Passes over the parameters of an update at its best: an average, or a step of SGD, reads two tensors and writes one; one that
# divides by a root of squares (Adam) reads parameter, gradient and two states, and writes three.
_PASSES, _ADAPTIVE_PASSES = 3, 7


class Sweeps(Struct, frozen=True):
    """The operators on parameters.

    Attributes:
        rows: these operators, outermost, all steps.
        entries: mask of their entries in the activity table.
        calls: how many there are per step.
        least_bytes: least traffic per step of an update of these parameters.
        adaptive: whether it divides by the root of something.
    """

    rows: Rows
    entries: Mask
    calls: float
    least_bytes: float
    adaptive: bool


def parameter_sweeps_of(run: Run, steady: Steady) -> Sweeps | None:
    """What goes through parameters; None if nothing does, or if shapes were not recorded."""
    operators = run.trace.rows(Category.CPU_OP)
    gradients = rows_matching(run.trace, _GRADIENT, steady.issued(run, operators))
    sizes = Counter(shape for row in gradients.tolist() for shape in shapes_of(run, row) if prod(shape) >= _LEAST_SIZE)
    # deepcopy copies the memory of a tensor
    as_bytes: dict[tuple[int, ...], tuple[int, ...]] = {(prod(shape) * _FLOAT_BYTES,): shape for shape in sizes}
    rows = _sweeping(run, outermost(run, operators), sizes.keys() | as_bytes.keys()) if sizes else operators[:0]
    swept = {as_bytes.get(shape, shape) for row in rows.tolist() for shape in shapes_of(run, row)}
    inside = steady.issued(run, rows)
    if not len(inside):
        return None
    adaptive = len(rows_matching(run.trace, _ROOT, rows)) > 0
    elements = steady.per_step(sum(prod(shape) * count for shape, count in sizes.items() if shape in swept))
    passes = _ADAPTIVE_PASSES if adaptive else _PASSES
    entries = work_in(run, spans_of_rows(run, rows))
    return Sweeps(rows, entries, steady.per_step(len(inside)), elements * _FLOAT_BYTES * passes, adaptive)


def _sweeping(run: Run, rows: Rows, parameters: set[tuple[int, ...]]) -> Rows:
    """Operators all of whose tensors have the shape of one parameter, and that neither autograd nor an optimizer runs."""
    rows = without(rows, rows_matching(run.trace, _VIEWS, rows))
    rows = without(rows, rows_matching(run.trace, _PRODUCTS, rows))
    first, kind = numbered_together(run.trace.events.args[rows])  # many rows, few shapes
    alike = [len(shapes := set(shapes_of(run, row))) == 1 and shapes <= parameters for row in rows[first].tolist()]
    rows = rows[np.array(alike, np.bool_)[kind]]
    rows = rows[~in_graph(run, rows) & ~in_backward(run, rows)]
    return rows[~run.optimizer_steps.own.contains(run.trace.events.start[rows])]
