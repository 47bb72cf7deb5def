"""The loss reads and writes the logits of a large vocabulary several times.

What it measures
    The time of log_softmax and nll_loss, forward and backward, over at least 16,384 classes.

Why it costs
    The logits (tokens x vocabulary) are often the largest tensor of a language model. Reading or writing them once costs as much
    as a layer, and their size limits the batch size.

How the gain is predicted
    A chunked or fused loss reads the logits once and writes their gradient once.
    Low: 75 % of the time remains.
    Mid: 50 % remains.
    High: 35 % remains.

How to fix
    Compute the loss in chunks of tokens, or use a fused linear cross entropy (Liger, Apple's cut cross entropy).

When it is wrong
    The rule promises too much if the chunks are small: they launch more kernels. The freed memory can be worth more than the
    saved time.

References
    Wijmans et al., Cut your losses in large-vocabulary language models, ICLR 2025.
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.attribution import owner_of, scaled
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_LOSS = re.compile(r"^aten::_log_softmax(_backward_data)?$|^aten::nll_loss(_forward|_backward)$")
# Vocabularies of language models; classifiers have fewer classes.
LEAST_VOCABULARY = 16_384
# Share of the time that remains: chunks need one read and one write of the logits instead of several.
_LEFT = (0.75, 0.5, 0.35)


@rule(
    "large-vocab-loss",
    "KE016",
    "the loss reads and writes all logits several times",
    needs=(Need.SHAPES,),
    also=("cross-entropy", "logits"),
)
def large_vocab_loss(run: Run) -> Outcome:
    """Judge the loss over a large vocabulary."""
    steady = steady_of(run)
    owner = owner_of(run, _LOSS)
    wide = {row: dims for row in np.unique(owner[owner >= 0]).tolist() if (dims := _logits(run, row)) is not None}
    mask = np.isin(owner, np.array(list(wide), np.int64))
    inside = mask & steady.entries(run)
    spent = steady.per_step(float((run.activity.end - run.activity.start)[inside].sum()))
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    first = next(iter(wide))
    tokens, vocabulary = wide[first]
    return Finding(
        summary=f"The loss over {number(tokens)} x {number(vocabulary)} logits takes {steady.share(spent)} of the step",
        fix="loss = torch.stack([F.cross_entropy(head(h), t) for h, t in zip(hidden.chunk(8), target.chunk(8))]).mean()",
        detail="a chunked loss (with torch.utils.checkpoint) or a fused linear cross entropy never stores all logits at once",
        change=Change(*(scaled(run, mask, left) for left in _LEFT)),
        evidence=(
            shown("device time", seconds(spent), "s"),
            shown("tokens", tokens, "count"),
            shown("vocabulary", vocabulary, "count"),
        ),
        place=run.places(np.array([first]))[0],
        effort="refactor",
        risk="rounding",
        confidence="hint",
    )


def _logits(run: Run, row: int) -> tuple[int, int] | None:
    args = run.trace.args_of(row)
    dims = args.shape(0) if args is not None and args.dims is not None else None
    return (dims[0], dims[-1]) if dims is not None and len(dims) == 2 and dims[-1] >= LEAST_VOCABULARY else None
