"""Attention is written as matmul, softmax and matmul, and its score matrix travels through memory several times.

What it measures
    Operators from the matrix product before each softmax over a square of scores to the product after it, forward and
    backward, with their kernels.

Why it costs
    The scores of a sequence of length s have s times s entries per head. Each step between the products reads and writes
    them; a fused kernel never does.

How the gain is predicted
    Each chain becomes one kernel: its FLOPs over the peak at 30, 50 or 70 % efficiency (25, 40, 60 on a CPU), never below the
    bytes of q, k, v and the result over the bandwidth (backward: 2.5 times the FLOPs, twice the bytes). On a CPU the peak is
    that of fp32, in which its fused kernel works whatever the format of the operands: written-out attention in bf16 can be as
    fast there. A square of scores that is masked is computed whole (low), to three quarters or to a half (high), for a causal
    mask is skipped by; where the run makes triangular masks, it is known to be a half.

How to fix
    F.scaled_dot_product_attention, with is_causal or attn_mask instead of adding a mask to the scores.

When it is wrong
    Attention that needs the scores themselves, or biases that no fused kernel takes. Short sequences gain little.

References
    Dao, FlashAttention-2, ICLR 2024.
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attention_chains import AttentionChains, attention_chains
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, Edit, MergeLaunches
from mfu_doctor.analysis.run import Run
from mfu_doctor.intervals import EMPTY
from mfu_doctor.quantities import counted
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Share of the peak that fused attention reaches: cautious, usual, good (FlashAttention-2 paper: 0.5 to 0.73 on A100).
_EFFICIENCY = (0.3, 0.5, 0.7)
# The same of a CPU's fused kernel and its fp32 peak: about 0.26 at 512 keys and 0.4 at 1024 with a causal mask (on an AMD EPYC).
_CPU_EFFICIENCY = (0.25, 0.4, 0.6)
# Share of a masked square of scores that it computes: all (the mask is any), half (it is causal and skipped by), the middle.
_UNMASKED = (1.0, 0.75, 0.5)


@rule(
    "unfused-attention",
    "KE005",
    "attention is computed in separate steps",
    needs=(Need.SHAPES, Need.PEAK),
    also=("sdpa", "flash-attention", "math-backend"),
)
def unfused_attention(run: Run) -> Outcome:
    """Judge products around a softmax."""
    steady = steady_of(run)
    chains = attention_chains(run)
    if chains is None:
        return None
    inside = steady.entries(run)[chains.entry]
    spent = steady.per_step(float(chains.length_ns[inside].sum()))
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    count = steady.per_step(len(set(chains.group[inside].tolist())))
    return Finding(
        summary=f"Attention as matmul, softmax, matmul takes {steady.share(spent)} of the step, "
        f"{counted(count, 'time')} in it",
        fix=f"y = F.scaled_dot_product_attention(q, k, v)  # {_mask_hint(chains)}",
        detail=f"scores of shape {chains.shape} are written to memory and read again",
        change=_change(run, chains),
        evidence=(
            shown("attentions", count, "per step"),
            shown("device time", seconds(spent), "s"),
            shown("kernels", steady.per_step(int(inside.sum())), "per step"),
        ),
        place=run.places(chains.softmax[:1])[0],
        risk="rounding",
    )


def _change(run: Run, chains: AttentionChains) -> Change:
    shares = _UNMASKED[-1:] * len(_UNMASKED) if chains.causal else _UNMASKED
    efficiencies = _CPU_EFFICIENCY if run.is_cpu else _EFFICIENCY
    return Change(*(_merged(run, chains, *end) for end in zip(efficiencies, shares, strict=True)))


def _mask_hint(chains: AttentionChains) -> str:
    if chains.masked.any():
        return "is_causal=True for a causal mask, which it skips by; attn_mask=mask for any other"
    return "with attn_mask=mask where scores are masked"


def _merged(run: Run, chains: AttentionChains, share_of_peak: float, unmasked: float) -> tuple[Edit, ...]:
    after = chains.floor_ns(run, share_of_peak, unmasked)
    rows = run.activity.row[chains.entry]
    return (MergeLaunches(rows, chains.group, after, EMPTY, 1.0),)
