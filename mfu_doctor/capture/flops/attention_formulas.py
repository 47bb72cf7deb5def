"""FLOPs of attention operators from the shapes of their operands, read by the names in the operator's schema.

Every framework orders the arguments differently and moves them between releases; their names stay. One formula then serves
PyTorch's own kernels and the flash-attn package alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from mfu_doctor.capture.flops.op_flops import OpFlops

if TYPE_CHECKING:
    import torch

# Matrix products over (query, key) pairs: forward computes QK' and PV; backward as a model is dV, dP, dQ and dK; the fused
# backward kernels compute QK' a second time, which is work of the machine and not of the model.
_FORWARD = (1, 1)  # products that are as wide as a query head, as a value head
_BACKWARD = (2, 2)
_FUSED_BACKWARD = (3, 2)

# Operators with [batch, heads, tokens, width] operands, and with [batch, tokens, heads, width] or packed [tokens, ...].
_HEADS_FIRST = (
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_fused_attention_overrideable",
)
_TOKENS_FIRST = (
    "aten::_flash_attention_forward",
    "aten::_efficient_attention_forward",
    "aten::_cudnn_attention_forward",
    "flash_attn::_flash_attn_forward",
    "flash_attn::_flash_attn_varlen_forward",
)


def _backward_of(name: str) -> str:
    return name.removesuffix("_forward") + "_backward"


# Operator -> (is it a backward operator, do heads come before tokens).
ATTENTION = {
    **dict.fromkeys(_HEADS_FIRST, (False, True)),
    **{_backward_of(name): (True, True) for name in _HEADS_FIRST},
    **dict.fromkeys(_TOKENS_FIRST, (False, False)),
    **{_backward_of(name): (True, False) for name in _TOKENS_FIRST},
}

# Higher-order operators, whose mask is data -> is it the backward.
FLEXIBLE_ATTENTION = {"flex_attention": False, "flex_attention_backward": True}


def pairs(queries: int, keys: int, *, causal: bool) -> int:
    """(query, key) pairs that are not masked; PyTorch's causal mask is aligned top left: query i sees i + 1 keys."""
    if not causal:
        return queries * keys
    short = min(queries, keys)
    return short * (short + 1) // 2 + (queries - short) * keys


def attention_flops(name: str, arguments: Mapping[str, Any]) -> OpFlops:
    """FLOPs of one call of an operator in `ATTENTION`.

    Args:
        name: qualified operator name.
        arguments: the call's arguments by schema name.
    """
    is_backward, heads_first = ATTENTION[name]
    query, key, value = (_first(arguments, long, long[0]) for long in ("query", "key", "value"))
    causal = bool(_first(arguments, "is_causal", "causal") or arguments.get("custom_mask_type"))
    heads = query.shape[-3] if heads_first else query.shape[-2]
    full, masked = _pair_counts(arguments, (query, key), heads_first=heads_first, causal=causal)
    widths = (query.shape[-1], value.shape[-1])
    return _flops(heads * full, heads * masked, widths, is_backward=is_backward)


def flexible_attention_flops(name: str, args: Sequence[torch.Tensor]) -> OpFlops:
    """FLOPs of one call of an operator in `FLEXIBLE_ATTENTION`, over the full square.

    Args:
        name: the operator's name.
        args: query, key and value [batch, heads, tokens, width], and what follows.
    """
    query, key, value = args[:3]
    full = prod(query.shape[:-1]) * key.shape[-2]
    return _flops(full, full, (query.shape[-1], value.shape[-1]), is_backward=FLEXIBLE_ATTENTION[name])


def _flops(full: int, masked: int, widths: tuple[int, int], *, is_backward: bool) -> OpFlops:
    """From the pairs of all heads and the widths of a query head and a value head."""
    model = _BACKWARD if is_backward else _FORWARD
    executed = _FUSED_BACKWARD if is_backward else _FORWARD

    def flops(counted: int, products: tuple[int, int]) -> int:
        return 2 * counted * (products[0] * widths[0] + products[1] * widths[1])

    return OpFlops(model=flops(full, model), causal=flops(masked, model), executed=flops(full, executed))


def _pair_counts(
    arguments: Mapping[str, Any],
    operands: tuple[torch.Tensor, torch.Tensor],
    *,
    heads_first: bool,
    causal: bool,
) -> tuple[int, int]:
    """Pairs of all sequences of the batch for one head: all of them, and those that the mask leaves."""
    query, key = operands
    axis = -2 if heads_first else -3
    starts = tuple(
        _first(arguments, *names) for names in (("cum_seq_q", "cu_seqlens_q"), ("cum_seq_k", "cu_seqlens_k"))
    )
    if starts[0] is None or starts[1] is None or starts[0].is_meta:
        batch = prod(query.shape[:-3])
        lengths = [(query.shape[axis], key.shape[axis])] * batch
    else:  # packed sequences: their lengths are data, and reading them here costs one wait in a step that is not timed
        lengths = list(zip(*(start.diff().tolist() for start in starts), strict=True))
    full = sum(q * k for q, k in lengths)
    return full, sum(pairs(q, k, causal=causal) for q, k in lengths)


def _first(arguments: Mapping[str, Any], *names: str) -> Any:
    return next((arguments[name] for name in names if arguments.get(name) is not None), None)
