"""Products are made by broadcasting and summed right after, where a matmul would do.

What it measures
    Multiplications of two tensors that are broadcast against each other, so that the result is at least 4 times larger than
    either, and that a sum (or mean) reads right after; also differences that are squared and summed (distances of all pairs).
    Their time in forward and backward.

Why it costs
    All products are written to memory and read again: for q and k of N rows and D columns, N x N x D of them. Backward makes
    two tensors of that size. A matmul computes the same sums in registers and writes only the result.

How the gain is predicted
    Forward becomes one matmul with the same products, and backward two. They take FLOPs / rate, but at least the traffic of the
    operands and the result / bandwidth.
    Low: half of the FLOP/s that the other matmuls of this run reach on average in this dtype.
    Mid: their mean FLOP/s (if there are none, half of the peak).
    High: the FLOP/s of the fastest of them (or the peak).

How to fix
    Use torch.matmul or torch.einsum with the operands before unsqueeze(). If the result is the scores of an attention, use
    F.scaled_dot_product_attention for all of it. For distances of all pairs use torch.cdist.

When it is wrong
    The sum is known by the order of the calls and by its size. Products that something else reads too (directions beside
    distances) are left alone: they must still be made. cdist computes distances from matmuls: points that are close to each
    other lose digits.

References
    https://pytorch.org/docs/stable/generated/torch.einsum.html
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.as_matmuls import NO_RATES, usual_rates
from mfu_doctor.analysis.evidence.attribution import device_ns
from mfu_doctor.analysis.evidence.broadcast_products import BroadcastProduct, broadcast_products_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, number
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds


@rule(
    "broadcast-product",
    "KE039",
    "products are made by broadcasting and then summed",
    needs=(Need.SHAPES,),
    also=("broadcast-multiply-sum", "einsum", "cdist", "pairwise-distance"),
)
def broadcast_product(run: Run) -> Outcome:
    """Judge products that are stored only to be summed."""
    found = broadcast_products_of(run)
    if found is None:
        return None
    products, work = found
    steady = steady_of(run)
    spent = device_ns(run, steady, work.mask)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    largest = max(products, key=lambda one: one.stored)
    rates = usual_rates(run, largest.dtype)
    if rates is None:
        return Skip(NO_RATES)
    first = np.array([one.rows[0] for one in products], np.int64)
    count = steady.per_step(len(steady.issued(run, first)))
    return Finding(
        summary=f"{counted(count, 'product')} per step made by broadcasting and then summed: {steady.share(spent)} of the step "
        "with their backward",
        fix=_fix(products, largest),
        detail=f"{_shown(largest.left)} with {_shown(largest.right)} makes {number(largest.stored)} elements that are written to "
        "memory and read again; a matmul never stores them",
        decides=Ends(low="only half of their usual one", high="matmuls reach the rate of the fastest one here"),
        change=Change(*(work.edit(run, rate) for rate in rates)),
        evidence=(
            shown("broadcast products", count, "per step"),
            shown("their time", seconds(spent), "s"),
            shown("elements of the largest", largest.stored, "count"),
        ),
        place=run.places(np.array([largest.rows[0]]))[0],
        risk="rounding",
    )


def _fix(products: tuple[BroadcastProduct, ...], largest: BroadcastProduct) -> str:
    if any(one.after_softmax for one in products):
        return "y = F.scaled_dot_product_attention(q, k, v)  # without unsqueeze(), instead of products, softmax and products"
    if largest.is_distance:
        return "torch.cdist(a, b)  # instead of differences of all pairs; .square() for squared distances"
    if largest.subscripts is None:
        return "torch.einsum(...)  # or torch.matmul: on the operands before unsqueeze(), instead of a * b and sum()"
    return f'torch.einsum("{largest.subscripts}", a, b)  # a and b before unsqueeze(), instead of (a * b).sum()'


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)
