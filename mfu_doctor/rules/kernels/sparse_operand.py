"""Matmuls have a constant factor that is almost all zeros.

What it measures
    The zeros of matrices that no gradient flows into and that are no parameters (an adjacency matrix of a batch of graphs,
    one-hot rows, a bag of words, a selection of rows), counted by profile() in steps beside the recorded ones, and the time of
    the products with those that are at least 98 % zeros, forward and backward.

Why it costs
    A matmul multiplies the zeros too. The adjacency matrix of 80 graphs of 30 nodes has 2,400 x 2,400 elements, of which some
    5,000 are not zero: all but a thousandth of the work gives nothing.

How the gain is predicted
    Each product takes its share of non-zeros, times how much slower a sparse kernel is: it reads rows at random, and uses no
    matrix instructions. It takes at least the traffic of the rows that belong to the non-zeros / bandwidth.
    Low: a non-zero takes 40 times as long as in a matmul, and its row is moved 10 times: five times, at half of the bandwidth.
    Mid: 10 times as long, and five times: rows are gathered (read, written) and added to the result (read twice, written).
    High: as long, and each row is read once (a kernel for CSR matrices).
    What making the matrix takes, and copying it to the device, is left as it is.

How to fix
    Keep the indices of the non-zeros and make no matrix of them: F.embedding for one-hot rows, h[index] for a selection,
    F.embedding_bag for a bag of words, index_add_ over the edges of a graph (or adjacency.to_sparse_csr() @ h, or a bmm of padded
    blocks).

When it is wrong
    Zeros that are where they are by chance of these batches. A matrix that is zeros throughout (stand-in data) is left out, and
    so are products in code that torch.compile compiled, and those in which both factors are constant.

References
    https://pytorch.org/docs/stable/generated/torch.Tensor.index_add_.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import device_ns, first_place, lessened
from mfu_doctor.analysis.evidence.sparse_operands import SLOWER_EACH, SparseProducts, sparse_products_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts.wasted_work import SparseOperand
from mfu_doctor.quantities import counted, number, percent
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_TWO_AXES = 2  # of one matrix; more are a batch of them
_MOVED = (10.0, 5.0, 1.0)  # how often the row of a non-zero is moved: low, mid, high


@rule(
    "sparse-operand",
    "KE045",
    "matmuls have a factor that is almost all zeros",
    needs=(Need.FACTS,),
    also=("dense-adjacency", "one-hot-matmul", "block-diagonal", "sparse-matmul"),
)
def sparse_operand(run: Run) -> Outcome:
    """Judge matmuls with a constant matrix of zeros."""
    if run.facts is None or run.facts.sparse_operands is None:
        return Skip(
            "no constant factor of a matmul was counted: profile() counts their zeros in the steps around the one with shapes"
        )
    found = sparse_products_of(run)
    if found is None:
        return None
    steady = steady_of(run)
    spent = device_ns(run, steady, found.mask)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    calls = steady.per_step(len(steady.issued(run, found.rows)))
    one = max(found.told, key=lambda operand: _elements(operand) * len(operand.sequence))
    return Finding(
        summary=f"Matmuls with a matrix of which {percent(one.nonzero)} is not zero take {steady.share(spent)} of the step, "
        f"{counted(calls, 'time')} per step and in backward",
        fix=_fix(one),
        detail=f"of {' x '.join(map(number, one.dims))} elements {number(round(one.nonzero * _elements(one)))} are not zero, and "
        "no gradient flows into them: keep their indices, make no matrix of them",
        decides=Ends(low="sparse kernels read rows at random", high="non-zeros take as long as in a matmul"),
        change=Change(*(lessened(run, found.less(run, *end)) for end in zip(SLOWER_EACH, _MOVED, strict=True))),
        evidence=(
            shown("non-zeros", one.nonzero, "share"),
            shown("matmuls with such a matrix", calls, "per step"),
            shown("their time", seconds(spent), "s"),
        ),
        place=first_place(run, found.rows),
        effort="refactor",
        risk="rounding",
        symptom_of=("diagonal-product",),
        needless_flops=_needless(run, found),
    )


def _needless(run: Run, found: SparseProducts) -> float:
    return float((run.flops.per_entry() * steady_of(run).entry_part(run))[found.mask] @ (1 - found.nonzero[found.mask]))


def _elements(operand: SparseOperand) -> int:
    elements = 1
    for size in operand.dims:
        elements *= size
    return elements


def _fix(operand: SparseOperand) -> str:
    if operand.one_each and operand.with_parameter:
        return (
            "y = F.embedding(index, weight)  # instead of one_hot @ weight (weight.t() of an nn.Linear, and + bias); times the "
            "values, if they are not 1"
        )
    rows, columns = operand.dims[-2:]
    if operand.one_each:
        scaled = "; values[:, None] * h if it is a diagonal" if rows == columns else ""
        return f"y = h[index]  # instead of selection @ h{scaled}; times values[:, None] if they are not 1"
    if operand.with_parameter:
        return 'y = F.embedding_bag(index, weight, offsets, mode="sum")  # with per_sample_weights=values if they are not 1'
    if rows == columns:
        alone = len(operand.dims) == _TWO_AXES
        instead = "; or adjacency.to_sparse_csr() @ h, or bmm of padded blocks" if alone else ", of all blocks together"
        return (
            "y = torch.zeros_like(h).index_add_(0, to, values[:, None] * h[source])  # over the edges, instead of adjacency @ h"
            f"{instead}"
        )
    return "y = matrix.to_sparse_csr() @ h  # instead of matrix @ h; or index_add_ over its non-zeros"
