"""Attention is written as matmul, softmax and matmul, and its score matrix travels through memory several times.

What it measures
    Operators from the matrix product before each softmax over a square of scores to the product after it, forward and
    backward, with their kernels.

Why it costs
    The scores of a sequence of length s have s times s entries per head. Each step between the products reads and writes
    them; a fused kernel never does.

How the gain is predicted
    Each chain becomes one kernel: its FLOPs over the peak at 30, 50 or 70 % efficiency, never below the bytes of q, k, v
    and the result over the bandwidth (backward: 2.5 times the FLOPs, twice the bytes). On a CPU the peak is that of fp32, in
    which its fused kernel works whatever the format of the operands: written-out attention in bf16 can be as fast there.

How to fix
    F.scaled_dot_product_attention, with is_causal or attn_mask instead of adding a mask to the scores.

When it is wrong
    Attention that needs the scores themselves, or biases that no fused kernel takes. Short sequences gain little.

References
    Dao, FlashAttention-2, ICLR 2024.
"""

from __future__ import annotations

from mfu_doctor.analysis.attention_chains import AttentionChains, attention_chains
from mfu_doctor.analysis.edits import Change, Edit, MergeLaunches
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.steady import steady_of
from mfu_doctor.intervals import EMPTY
from mfu_doctor.phrasing import counted, share
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.units import seconds

# Share of the peak that fused attention reaches: cautious, usual, good (FlashAttention-2 paper: 0.5 to 0.73 on A100).
_EFFICIENCY = (0.3, 0.5, 0.7)
SEEN_SHARE = 0.01


@rule("unfused-attention", "KE005", "attention is computed in separate steps", needs=("shapes", "peak"))
def unfused_attention(run: Run) -> Outcome:
    """Judge products around a softmax."""
    steady = steady_of(run)
    chains = attention_chains(run)
    if chains is None:
        return None
    inside = steady.entries(run)[chains.entry]
    spent = steady.per_step(float(chains.length_ns[inside].sum()))
    if spent < SEEN_SHARE * steady.step_ns:
        return None
    count = steady.per_step(len(set(chains.group[inside].tolist())))
    return Finding(
        summary=f"Attention as matmul, softmax, matmul takes {share(spent, steady.step_ns)} of the step, "
        f"{counted(count, 'time')} in it",
        fix="y = F.scaled_dot_product_attention(q, k, v)  # with attn_mask=mask where scores are masked",
        detail=f"scores of shape {chains.shape} are written to memory and read again",
        change=Change(*(_merged(run, chains, share_of_peak) for share_of_peak in _EFFICIENCY)),
        evidence=(
            shown("attentions", count, "per step"),
            shown("device time", seconds(spent), "s"),
            shown("kernels", steady.per_step(int(inside.sum())), "per step"),
        ),
        place=run.places(chains.softmax[:1])[0],
        risk="rounding",
    )


def _merged(run: Run, chains: AttentionChains, share_of_peak: float) -> tuple[Edit, ...]:
    after = chains.floor_ns(run, share_of_peak)
    rows = run.activity.row[chains.entry]
    return (MergeLaunches(rows, chains.group, after, EMPTY, 1.0),)
