"""Scores are computed for all pairs, and a mask keeps few of them.

What it measures
    The masks of softmax(where(mask, scores, -inf)) and of masked_fill, counted by profile() in steps beside the recorded ones,
    and the time of all work on tensors of the size of the scores, forward and backward, where at most 2 % are kept: dense
    attention over a graph (GAT over an adjacency matrix), or over a narrow window.

Why it costs
    A score, its mask, its part of the softmax and its gradients are computed for N x N pairs. A graph of 1,000 nodes with 4,000
    edges needs 4,000 of a million.

How the gain is predicted
    The work shrinks to the share of scores that is kept, times how much longer a pair takes if it is looked up by its indices.
    Low: 40 times as long. Mid: 10 times as long. High: as long.

How to fix
    Compute scores for the edges alone, the softmax over the edges of each node, and add what they weigh to their nodes.
    torch_geometric's softmax and its GATConv do so. For a window, use flex_attention with a block mask, or attention of blocks.

When it is wrong
    A mask that keeps more in other batches than in those that were counted. Masks that are added to the scores are not seen, and
    neither are those that each head has of its own, as they may be made of the scores.
    Other tensors of exactly the same size are taken for scores.

References
    https://pytorch-geometric.readthedocs.io/en/latest/generated/torch_geometric.utils.softmax.html
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.evidence.attribution import device_ns, first_place, lessened
from mfu_doctor.analysis.evidence.kept_scores import masked_scores_of
from mfu_doctor.analysis.evidence.sparse_operands import SLOWER_EACH
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, number, percent
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

Shares = npt.NDArray[np.float64]

_FIX = (
    "to, source = mask.nonzero(as_tuple=True)  # scores for these pairs only; torch_geometric.utils.softmax(scores, to), then "
    "index_add_ of weights * h[source] to the rows `to`"
)


@rule(
    "sparse-mask",
    "KE047",
    "scores are computed for all pairs, and a mask keeps few",
    needs=(Need.FACTS, Need.SHAPES),
    also=("dense-graph-attention", "masked-softmax"),
)
def sparse_mask(run: Run) -> Outcome:
    """Judge attention of which a mask keeps few scores."""
    if run.facts is None or run.facts.kept_scores is None:
        return Skip("no mask before a softmax was counted: profile() does that in the steps around the one with shapes")
    found = masked_scores_of(run)
    if found is None:
        return None
    steady = steady_of(run)
    spent = device_ns(run, steady, found.mask)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    calls = steady.per_step(len(steady.issued(run, found.rows)))
    one = max(found.told, key=lambda scores: len(scores.sequence))
    return Finding(
        summary=f"Work on scores of which a mask keeps {percent(one.kept)} takes {steady.share(spent)} of the step, "
        f"{counted(calls, 'time')} per step, forward and backward",
        fix=_FIX,
        detail=f"of {' x '.join(map(number, one.dims))} scores {percent(1 - one.kept)} are computed, masked, and lost",
        decides=Ends(low="pairs are looked up at random", high="a pair takes no longer than a score in a matrix"),
        change=Change(*(lessened(run, _less(found.kept, slower)) for slower in SLOWER_EACH)),
        evidence=(
            shown("scores kept", one.kept, "share"),
            shown("softmaxes of masked scores", calls, "per step"),
            shown("time on tensors of this size", seconds(spent), "s"),
        ),
        place=first_place(run, found.rows),
        effort="refactor",
        risk="rounding",
    )


def _less(kept: Shares, slower: float) -> Shares:
    return np.where(kept < 1, 1.0 - np.minimum(slower * kept, 1.0), 0.0)
