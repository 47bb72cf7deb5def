"""Matmuls multiply by a diagonal matrix.

What it measures
    Matmuls right after torch.diag or torch.diag_embed made a matrix of a vector, with a square factor of that size: D @ A, and
    the two of D @ A @ D, as in the normalisation of a graph's adjacency matrix.

Why it costs
    A diagonal matrix of N rows has N values and N * N - N zeros. A matmul with it costs N operations for each element of the
    result, where one is enough.

How the gain is predicted
    Scaling rows or columns reads and writes the matrix once. Making the diagonal matrix writes as much, so each matmul takes
    twice the time of that afterwards.
    Low: only the first matmul after each diagonal matrix; the matrices are still made.
    Mid and high: also the second one of D @ A @ D, and the matrices are no longer made.

How to fix
    Multiply by the vector v that diag(v) makes a matrix of: v[:, None] * a for diag(v) @ a, a * v for a @ diag(v). If the result
    is the same in each step (a graph that does not change), compute it once before training and keep it with register_buffer.

When it is wrong
    The factor is known by the order of the calls and by its size. A matmul right after torch.diag with another square factor of
    the same size would be taken for one.

References
    https://pytorch.org/docs/stable/notes/broadcasting.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import device_ns, first_place, scaled
from mfu_doctor.analysis.evidence.diagonal_products import diagonal_products_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_PASSES = 2  # to scale a matrix reads and writes it; to make one only writes it
_SCALING = (
    "y = v[:, None] * a * v  # instead of torch.diag(v) @ a @ torch.diag(v): keep the vector v, make no matrix of it"
)
_ONCE = (
    "no gradient flows through it: if it is the same in every step, compute it once before training and keep it with "
    "register_buffer"
)


@rule(
    "diagonal-product",
    "KE038",
    "matmuls multiply by a diagonal matrix",
    needs=(Need.SHAPES,),
    also=("diagonal-matmul", "adjacency-normalization"),
)
def diagonal_product(run: Run) -> Outcome:
    """Judge matmuls with a diagonal matrix."""
    found = diagonal_products_of(run)
    if found is None:
        return None
    steady = steady_of(run)
    products = found.first | found.second
    spent, making = device_ns(run, steady, products), device_ns(run, steady, found.making)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    calls = steady.per_step(len(steady.issued(run, found.rows)))
    made = steady.per_step(len(steady.issued(run, found.made)))
    left = min(_PASSES * making / made * calls / spent, 1.0)
    return Finding(
        summary=f"{counted(calls, 'matmul')} per step with a diagonal matrix: {steady.share(spent)} of the step",
        fix=_SCALING,
        detail=None if found.learned else _ONCE,
        decides=Ends(low="only one factor is diagonal", high="both factors of D @ A @ D are diagonal"),
        change=Change(
            scaled(run, found.first, left),
            (*scaled(run, products, left), *scaled(run, found.making, 0.0)),
            (*scaled(run, products, left), *scaled(run, found.making, 0.0)),
        ),
        evidence=(
            shown("matmuls with a diagonal matrix", calls, "per step"),
            shown("their time", seconds(spent), "s"),
        ),
        place=first_place(run, found.rows),
        risk="rounding",
        needless_flops=float((run.flops.per_entry() * steady.entry_part(run))[products].sum()),
    )
