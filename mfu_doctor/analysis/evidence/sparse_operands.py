"""Products with a constant operand that is almost all zeros, forward and backward, and what the non-zeros alone would take."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import of_events, spans_of_rows, work_in
from mfu_doctor.analysis.evidence.backward import maker_of, nodes_numbered
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED
from mfu_doctor.analysis.views.kernels import DTYPE_CODES
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.devices.dtypes import dtype_bytes
from mfu_doctor.facts.wasted_work import SparseOperand
from mfu_doctor.units import NS_PER_S

Floats = npt.NDArray[np.float64]

# How much longer what is kept of a matrix takes if it is looked up by its indices: at the most, as a rule, at the least.
SLOWER_EACH = (40.0, 10.0, 1.0)
MOST_KEPT = 0.02  # share of a matrix up to which that is sure to be faster
_FLOP_EACH = 2  # a multiply-accumulate


class SparseProducts(Struct, frozen=True):
    """Those of all steps; arrays have an item for each entry of the activity table, shape (n,).

    Attributes:
        mask: the products.
        nonzero: share of non-zeros of their operand, 1 where there is none.
        now_ns: what each takes.
        terms: elements that the non-zeros are multiplied with: non-zeros x width of the other operand.
        size: bytes of an element.
        rows: operators of forward.
        told: their operands.
    """

    mask: Mask
    nonzero: Floats
    now_ns: Floats
    terms: Floats
    size: Floats
    rows: Rows
    told: tuple[SparseOperand, ...]

    def less(self, run: Run, slower: float, passes: float) -> Floats:
        """Part of each product's time that goes without the zeros, shape (n,).

        Args:
            run: the run.
            slower: how much longer a non-zero takes in a sparse kernel than in a matmul.
            passes: how often the rows that belong to the non-zeros are read or written.
        """
        bandwidth = run.peaks.bandwidth
        moving = passes * self.terms * self.size / bandwidth * NS_PER_S if bandwidth else np.zeros(len(self.terms))
        after = np.maximum(slower * self.nonzero * self.now_ns, moving)
        return np.where(self.mask, 1.0 - np.minimum(after / np.maximum(self.now_ns, 1.0), 1.0), 0.0)


def sparse_products_of(run: Run) -> SparseProducts | None:
    """The products with an operand that is almost all zeros; None if there are none, or if the run does not tell."""
    told = run.facts.sparse_operands if run.facts is not None else None
    # nothing but zeros is a stand-in: data of a benchmark, the state that a recurrent layer begins with
    told = tuple(one for one in told or () if 0 < one.nonzero <= MOST_KEPT)
    nonzero, rows = np.ones(len(run.activity.row)), []
    for one in told:
        nodes, _ = nodes_numbered(run, one.sequence)
        made = maker_of(run, nodes)
        made = distinct(made[made >= 0])
        mine = work_in(run, spans_of_rows(run, np.concatenate((nodes, made)))) & run.kernels.matmul_like
        nonzero[mine] = one.nonzero
        rows.append(made)
    mask = nonzero < 1
    if not mask.any():
        return None
    every = np.arange(len(mask))
    now = of_events(run, every, (run.activity.end - run.activity.start).astype(np.float64))
    flops = of_events(run, every, run.flops.per_entry(EXECUTED))
    size = np.array([dtype_bytes(dtype) or 0.0 for dtype in DTYPE_CODES])[run.kernels.dtype]
    return SparseProducts(mask, nonzero, now, flops / _FLOP_EACH * nonzero, size, np.concatenate(rows), told)
