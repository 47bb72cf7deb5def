"""Attention is computed as matmul, softmax and matmul. The score matrix is written to memory and read again several times.

What it measures
    The operators from the matmul before each softmax (over a square score matrix) to the matmul after it, in forward and
    backward, with their kernels.

Why it costs
    For a sequence of length s the scores have s x s entries per head. Each operator between the two matmuls reads and writes all
    of them. A fused kernel never writes them to memory.

How the gain is predicted
    Each chain becomes one kernel: FLOPs / (peak x efficiency), but at least the bytes of q, k, v and the result / bandwidth. For
    backward: 2.5 times the FLOPs, twice the bytes.
    Low: 30 % efficiency (25 % on a CPU). Masked scores are all computed.
    Mid: 50 % (40 % on a CPU). 75 % of masked scores are computed.
    High: 70 % (60 % on a CPU). 50 % of masked scores are computed, because causal kernels skip the masked part.
    If the run creates triangular masks, all three estimates use 50 %. On a CPU the fused kernel computes in fp32 for all dtypes,
    so the fp32 peak is used, and unfused bf16 attention can be equally fast.

How to fix
    Use F.scaled_dot_product_attention with is_causal or attn_mask. Do not add a mask to the scores. A model of Hugging Face
    transformers has a setting for it: from_pretrained(..., attn_implementation="sdpa"). If it is
    in use already (nn.MultiheadAttention and nn.TransformerEncoderLayer call it), its inputs keep it from the fused kernels: on a
    CPU that is most often dropout of the scores, which no fused CPU kernel has.

When it is wrong
    The rule is wrong if the model needs the scores themselves, or a bias that fused kernels do not support. Scores to which a
    second product with the queries is added (relative positions) are left out: no fused kernel computes it. On a CPU so are those
    with a bias that is learned: no fused kernel takes a mask that needs a gradient. Short sequences gain little.

References
    Dao, FlashAttention-2, ICLR 2024.
"""

from __future__ import annotations

from msgspec import Struct

from mfu_doctor.analysis.evidence.attention_chains import AttentionChains, attention_chains
from mfu_doctor.analysis.evidence.forward_only import attends_in_transformers
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, Edit, MergeLaunches
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import EMPTY
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Confidence, Finding, Outcome, Risk, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Share of the peak that fused attention reaches: low, mid, high (FlashAttention-2 paper: 0.5 to 0.73 on A100).
_EFFICIENCY = (0.3, 0.5, 0.7)
# The same on a CPU, of its fp32 peak: about 0.26 at 512 keys and 0.4 at 1024 with a causal mask (on an AMD EPYC).
_CPU_EFFICIENCY = (0.25, 0.4, 0.6)
# Share of masked scores that it computes: all (any mask), the middle, half (a causal mask, whose masked part is skipped).
_UNMASKED = (1.0, 0.75, 0.5)
# How attention stops to drop scores: in a model of transformers, and elsewhere.
_CONFIG = (
    "config.attention_dropout = 0.0  # before the model is made; of BERT it is attention_probs_dropout_prob, of GPT-2 "
    "attn_pdrop: any other name changes nothing"
)
_ARGUMENT = (
    "y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.0)  # in a library: its option for dropout of attention "
    "(dropout of nn.MultiheadAttention)"
)
# What F.scaled_dot_product_attention does otherwise than attention that somebody wrote out.
_DIFFERS = "it scales by 1/sqrt(head size) unless scale= is given, and keeps scores where a boolean mask is True; "


class _Advice(Struct, frozen=True):
    """A line to paste, why it is that line, what it changes, and what keeps attention from a fused kernel."""

    fix: str
    why: str = ""
    cause: str = ""
    risk: Risk = "rounding"
    confidence: Confidence = "modelled"


@rule(
    "unfused-attention",
    "KE005",
    "attention is computed with separate matmuls and softmax",
    needs=(Need.SHAPES, Need.PEAK),
    also=("sdpa", "flash-attention", "math-backend"),
)
def unfused_attention(run: Run) -> Outcome:
    """Judge matmuls around a softmax."""
    steady = steady_of(run)
    chains = attention_chains(run)
    if chains is None:
        return None
    inside = steady.entries(run)[chains.entry]
    spent = steady.per_step(float(chains.length_ns[inside].sum()))
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    count = steady.per_step(len(set(chains.group[inside].tolist())))
    advice = _advice(run, chains)
    takes = f"takes {steady.share(spent)} of the step, {counted(count, 'time')} per step"
    return Finding(
        summary=f"{advice.cause}{'u' if advice.cause else 'U'}nfused attention (matmul, softmax, matmul) {takes}",
        fix=advice.fix,
        detail=f"{advice.why}scores of shape {chains.shape} are written to memory and read again",
        decides=Ends(low="it reaches 30 %", high="the fused kernel reaches 70 % of the peak and skips masked scores"),
        change=_change(run, chains),
        evidence=(
            shown("attentions", count, "per step"),
            shown("device time", seconds(spent), "s"),
            shown("kernels", steady.per_step(int(inside.sum())), "per step"),
        ),
        place=run.places(chains.softmax[:1])[0],
        risk=advice.risk,
        confidence=advice.confidence,
    )


def _advice(run: Run, chains: AttentionChains) -> _Advice:
    if not chains.called and attends_in_transformers(run):
        return _Advice(
            'model = AutoModel.from_pretrained(..., attn_implementation="sdpa")  # refused if its class has none yet: then '
            "F.scaled_dot_product_attention at this line",
        )
    if not chains.called:
        return _Advice(f"y = F.scaled_dot_product_attention(q, k, v)  # {_mask_hint(chains)}", _DIFFERS)
    if run.is_cpu and chains.dropped:
        return _Advice(
            _CONFIG if attends_in_transformers(run) else _ARGUMENT,
            "scaled_dot_product_attention is in use, but no fused CPU kernel drops scores; other dropout can stay; ",
            "Dropout of the scores keeps attention from its fused kernel: ",
            risk="convergence",
        )
    return _Advice(
        "with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):  "
        "# from torch.nn.attention; it warns of what is in the way",
        "scaled_dot_product_attention is in use, but its inputs keep it from the fused kernels; ",
        confidence="hint",
    )


def _change(run: Run, chains: AttentionChains) -> Change:
    shares = _UNMASKED[-1:] * len(_UNMASKED) if chains.causal else _UNMASKED
    efficiencies = _CPU_EFFICIENCY if run.is_cpu else _EFFICIENCY
    return Change(*(_merged(run, chains, *end) for end in zip(efficiencies, shares, strict=True)))


def _mask_hint(chains: AttentionChains) -> str:
    if chains.masked.any():
        return "is_causal=True for a causal mask (faster), attn_mask=mask for other masks"
    return "with attn_mask=mask if scores are masked"


def _merged(run: Run, chains: AttentionChains, share_of_peak: float, unmasked: float) -> tuple[Edit, ...]:
    after = chains.floor_ns(run, share_of_peak, unmasked)
    rows = run.activity.row[chains.entry]
    return (MergeLaunches(rows, chains.group, after, EMPTY, 1.0),)
