"""The loss reads and writes the logits of a large vocabulary several times.

What it measures
    The time of all work, forward and backward, on tensors of the size of the logits, if there are at least 16,384 classes; with
    fewer only if targets with a column per class are made. The loss is found by what it does: cross_entropy, or log_softmax,
    one-hot targets, sums and products in the program.

Why it costs
    The logits (tokens x vocabulary) are often the largest tensor of a language model. Reading or writing them once costs as much
    as a layer, and their size limits the batch size. Targets as one-hot vectors and float64 multiply the traffic.

How the gain is predicted
    For cross_entropy: a chunked or fused loss reads the logits once and writes their gradient once. 75 % (low), 50 % (mid) and
    35 % (high) of the time remain.
    For a loss that is written out: cross_entropy moves all logits 6 times (log_softmax reads and writes them, its backward
    pass reads two tensors and writes one, nll_loss writes one), and 11 times with label_smoothing (a sum reads them, and its
    gradient is written and added). The rest of the present traffic is saved.
    Low: 70 % of this saving.
    Mid: all of it.
    High: the logits are moved only 3 times (a chunked or fused loss).

How to fix
    F.cross_entropy on the logits as the model makes them, with class numbers as targets. After that, compute the loss in chunks
    of tokens, or use a fused linear cross entropy (Liger, Apple's cut cross entropy).

When it is wrong
    The rule promises too much if the chunks are small: they launch more kernels. The freed memory can be worth more than the
    saved time. A loss that is written out can be one that cross_entropy does not compute.

References
    Wijmans et al., Cut your losses in large-vocabulary language models, ICLR 2025.
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.attribution import device_ns, scaled
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.evidence.vocab_loss import VocabLoss, vocab_loss_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Share of the time that remains: chunks need one read and one write of the logits instead of several.
_LEFT = (0.75, 0.5, 0.35)
# How often cross_entropy moves all logits, and at the least (read them, write their gradient, read them again for it).
_PASSES, _SMOOTHED_PASSES, _FEWEST_PASSES = 6.0, 11.0, 3.0
_SAVED_AT_LEAST = 0.7
_CHUNKED = "loss = torch.stack([F.cross_entropy(head(h), t) for h, t in zip(hidden.chunk(8), target.chunk(8))]).mean()"
_WHOLE = (
    "loss = F.cross_entropy(logits.flatten(0, -2), target.flatten())  # class numbers as targets, no one-hot, no float64; with "
    "the reduction, the ignore_index and the label_smoothing of yours"
)


_SMOOTHED = (
    "loss = F.cross_entropy(logits.flatten(0, -2), target.flatten(), label_smoothing=0.1)  # class numbers as targets; with the "
    "smoothing, the reduction and the ignore_index of yours"
)


@rule(
    "large-vocab-loss",
    "KE016",
    "the loss reads and writes all logits several times",
    needs=(Need.SHAPES,),
    also=("cross-entropy", "logits", "one-hot"),
)
def large_vocab_loss(run: Run) -> Outcome:
    """Judge the loss over a large vocabulary."""
    steady = steady_of(run)
    loss = vocab_loss_of(run, steady)
    if loss is None:
        return None
    spent = device_ns(run, steady, loss.entries)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    passes = () if loss.passes is None else (shown("reads and writes of all logits", loss.passes, "per step"),)
    return Finding(
        summary=f"The loss over {number(loss.tokens)} x {number(loss.vocabulary)} logits takes {steady.share(spent)} of the step",
        fix=(_SMOOTHED if loss.is_smoothed else _WHOLE) if loss.is_written_out else _CHUNKED,
        detail=_detail(loss),
        decides=Ends(low="it moves its logits nearly as often as now", high="the loss is fused or computed in chunks"),
        change=Change(*(scaled(run, loss.entries, left) for left in _left(loss))),
        evidence=(
            shown("device time", seconds(spent), "s"),
            shown("tokens", loss.tokens, "count"),
            shown("vocabulary", loss.vocabulary, "count"),
            *passes,
        ),
        place=run.places(np.array([loss.row]))[0],
        effort="line" if loss.is_written_out else "refactor",
        risk="rounding",
        confidence="modelled" if loss.is_written_out and loss.passes is not None else "hint",
    )


def _left(loss: VocabLoss) -> tuple[float, float, float]:
    """Share of the time that remains: low, mid, high."""
    if not loss.is_written_out or loss.passes is None:
        return _LEFT
    mid, high = (min(passes / loss.passes, 1.0) for passes in (_needed(loss), _FEWEST_PASSES))
    return 1.0 - _SAVED_AT_LEAST * (1.0 - mid), mid, high


def _needed(loss: VocabLoss) -> float:
    return _SMOOTHED_PASSES if loss.is_smoothed else _PASSES


def _detail(loss: VocabLoss) -> str:
    if not loss.is_written_out or loss.passes is None:
        return "a chunked loss (with torch.utils.checkpoint) or a fused linear cross entropy never stores all logits at once"
    least = f"cross_entropy needs about {_needed(loss):.0f}"
    return f"it is written out and moves as much memory as {number(loss.passes)} reads of the logits; {least}"
