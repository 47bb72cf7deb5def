"""Diagonal matrices are factorized.

What it measures
    Factorizations, solves and determinants, forward and backward, of matrices that torch.diag, torch.diag_embed or torch.eye made
    right before, as torch.distributions.MultivariateNormal does with torch.diag_embed(variance).

Why it costs
    A Cholesky factor of N rows takes N^3 / 3 operations, one by one for small matrices, and its backward several products and
    solves. For a diagonal matrix all of it is elementwise on its N values.

How the gain is predicted
    What is left, on vectors, takes no time.
    Low: a tenth of the factorizations, solves and determinants stays, and the matrices are still made.
    Mid and high: they go, and so do the making of the matrices and the comparison whether they are symmetric.

How to fix
    Keep the vector: Independent(Normal(mean, std), 1) is the distribution of MultivariateNormal(mean, torch.diag_embed(std**2)).
    The factor of diag(v) is v.sqrt(), its inverse 1 / v, its log-determinant v.log().sum(-1).

When it is wrong
    The matrix is known by the order of the calls and by its size. If matrices of that size are factorized otherwise too, the rule
    is silent.

References
    https://pytorch.org/docs/stable/distributions.html#torch.distributions.independent.Independent
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import device_ns, first_place, scaled
from mfu_doctor.analysis.evidence.diagonal_factorizations import diagonal_factorizations_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_STAYS = 0.1  # at the low end


@rule(
    "diagonal-factorization",
    "KE049",
    "diagonal matrices are factorized",
    needs=(Need.SHAPES,),
    also=("diagonal-covariance", "multivariate-normal", "needless-cholesky"),
)
def diagonal_factorization(run: Run) -> Outcome:
    """Judge the linear algebra on diagonal matrices."""
    found = diagonal_factorizations_of(run)
    if found is None:
        return None
    steady = steady_of(run)
    spent = device_ns(run, steady, found.work)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    calls = steady.per_step(len(steady.issued(run, found.rows)))
    everything = scaled(run, found.work | found.around, 0.0)
    return Finding(
        summary=f"{counted(calls, 'linear-algebra call')} per step on diagonal matrices of {found.size} rows: "
        f"{steady.share(spent)} of the step",
        fix="Independent(Normal(mean, std), 1)  # instead of MultivariateNormal(mean, torch.diag_embed(std**2)); the factor of "
        "diag(v) is v.sqrt(), its inverse 1 / v",
        decides=Ends(low="a tenth of it stays, and the matrices are made", high="only work on vectors is left"),
        change=Change(scaled(run, found.work, _STAYS), everything, everything),
        evidence=(shown("factorizations and solves", calls, "per step"), shown("their time", seconds(spent), "s")),
        place=first_place(run, found.rows),
        risk="rounding",
        needless_flops=float((run.flops.per_entry() * steady.entry_part(run))[found.work].sum()),
    )
