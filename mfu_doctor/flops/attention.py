"""FLOPs of fused attention: two matmuls per query-key pair forward, four backward.

Model FLOPs count all pairs (comparable with published MFU); causal FLOPs count exactly the unmasked pairs. Fused backward kernels
compute the scores again: a fifth matmul that is executed but is not model work. Grouped-query attention multiplies once per query
head. Masks that are tensors (additive masks, the blocks of flex_attention) count as no mask, and so does the `window_size` of the
memory-efficient operators.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import prod

from msgspec import Struct

from mfu_doctor.flops.call import Call, Operand
from mfu_doctor.flops.masks import Mask, square
from mfu_doctor.flops.op_flops import OpFlops
from mfu_doctor.flops.operators import Formula, Operator, operator

# Products over (query, key) pairs that are as wide as a query head, as a value head. Forward computes QK' and PV, backward
# dV, dP, dQ and dK; fused kernels compute QK' again, which is work of the machine and not of the model.
_FORWARD, _BACKWARD, _FUSED_BACKWARD = (1, 1), (2, 2), (3, 2)

_TOP_LEFT, _BOTTOM_RIGHT = 1, 2  # values of `custom_mask_type` in PyTorch's memory-efficient attention

# Values that stand in memory elsewhere or in part: which keys a query meets is then data that no adapter reads.
_ELSEWHERE = (
    *("block_table", "page_table", "kv_batch_idx", "k_new", "leftpad_k"),
    *("seqused_q", "seqused_k", "sequed_q", "sequed_k", "seqlen_k"),
)
_STARTS_Q, _STARTS_K = ("cum_seq_q", "cu_seqlens_q"), ("cum_seq_k", "cu_seqlens_k")


class _Sizes(Struct, frozen=True):
    """Query heads, widths of a query head and of a value head, and how often each (queries, keys) occurs in the batch."""

    heads: int
    widths: tuple[int, int]
    lengths: Counter[tuple[int, int]]

    def flops(self, mask: Mask, products: tuple[int, int]) -> int:
        """That many matmuls of each width for each unmasked pair."""
        counted = sum(times * mask.pairs(queries, keys) for (queries, keys), times in self.lengths.items())
        return 2 * self.heads * counted * (products[0] * self.widths[0] + products[1] * self.widths[1])


def attention(
    *, heads_first: bool, bottom_right: bool = False, packed: bool = False, backward: bool = False
) -> Formula:
    """Fused attention.

    Args:
        heads_first: the layout is [B, H, T, D], else [B, T, H, D].
        bottom_right: a causal mask lets the last query see every key; else query i sees the first i + 1 keys.
        packed: sequences may stand one after the other, [tokens, H, D] with the offsets where each begins.
        backward: the operator computes the gradients.
    """
    model, executed = (_BACKWARD, _FUSED_BACKWARD) if backward else (_FORWARD, _FORWARD)

    def formula(call: Call) -> OpFlops | None:
        q, k, v = call.tensor("query", "q"), call.tensor("key", "k"), call.tensor("value", "v")
        if q is None or k is None or v is None or call.tensor(*_ELSEWHERE) is not None:
            return None
        starts_q, starts_k = call.tensor(*_STARTS_Q), call.tensor(*_STARTS_K)
        if packed and starts_q is not None and starts_k is not None:
            lengths = _read_lengths(starts_q, starts_k) or _equal_lengths(call, (q, k), starts_q)
            sizes = _packed_sizes(q, v, lengths)
        else:
            sizes = _dense_sizes(q, k, v, heads_first=heads_first)
        if sizes is None:
            return None
        mask, full = _mask(call, bottom_right=bottom_right), sizes.flops(square(), executed)
        size = q.element_bytes
        queries_and_output = prod(q.shape[:-1]) * (q.shape[-1] + v.shape[-1])
        elements = queries_and_output + prod(k.shape) + prod(v.shape)
        return OpFlops(
            model=sizes.flops(square(), model),
            executed=full,
            causal=sizes.flops(mask, model),
            skipped=full - sizes.flops(mask, executed),
            type=q.type,
            bytes=(2 if backward else 1) * size * elements if size else None,
            backward=backward,
        )

    return formula


def _mask(call: Call, *, bottom_right: bool) -> Mask:
    """Which pairs the kernel must compute."""
    kind = call.integer("custom_mask_type")
    if kind in (_TOP_LEFT, _BOTTOM_RIGHT):
        return Mask(ahead=0, bottom_right=kind == _BOTTOM_RIGHT)
    behind, ahead = call.integer("window_size_left"), call.integer("window_size_right")
    causal = bool(call.flag("is_causal", "causal"))
    return Mask(
        behind=None if behind is None or behind < 0 else behind,
        ahead=0 if causal else None if ahead is None or ahead < 0 else ahead,
        bottom_right=bottom_right,
    )


def _dense_sizes(q: Operand, k: Operand, v: Operand, *, heads_first: bool) -> _Sizes | None:
    if not len(q.shape) == len(k.shape) == len(v.shape) == 4:
        return None
    time, head = (2, 1) if heads_first else (1, 2)
    lengths = Counter({(q.shape[time], k.shape[time]): q.shape[0]})
    return _Sizes(q.shape[head], (q.shape[3], v.shape[3]), lengths)


def _packed_sizes(q: Operand, v: Operand, lengths: Counter[tuple[int, int]] | None) -> _Sizes | None:
    if lengths is None or len(q.shape) < 3 or len(v.shape) < 3:
        return None
    return _Sizes(q.shape[-2], (q.shape[-1], v.shape[-1]), lengths)


def _read_lengths(starts_q: Operand, starts_k: Operand) -> Counter[tuple[int, int]] | None:
    """Lengths of the sequences from the offsets where they begin, if the adapter saw them."""
    if starts_q.values is None or starts_k.values is None:
        return None
    queries, keys = ([end - start for start, end in pairwise(s)] for s in (starts_q.values, starts_k.values))
    return Counter(zip(queries, keys, strict=True))


def _equal_lengths(call: Call, operands: tuple[Operand, Operand], starts: Operand) -> Counter[tuple[int, int]] | None:
    """Lengths that are data are known all the same if every sequence is as long as the longest."""
    longest = call.integer("max_q", "max_seqlen_q"), call.integer("max_k", "max_seqlen_k")
    count = prod(starts.shape) - 1
    if longest[0] is None or longest[1] is None or count < 1:
        return None
    rows = tuple(prod(operand.shape[:-2]) for operand in operands)
    return Counter({(longest[0], longest[1]): count}) if rows == (count * longest[0], count * longest[1]) else None


# Flash-attention's causal mask is aligned bottom right since its version 2.1, and torch asks its operators for exactly that
# (torch/nn/attention/bias.py); scaled_dot_product_attention and the other kernels align top left by default.
_SDPA = attention(heads_first=True)
_SDPA_BACKWARD = attention(heads_first=True, backward=True)
_SDPA_FLASH = attention(heads_first=True, bottom_right=True)
_SDPA_FLASH_BACKWARD = attention(heads_first=True, bottom_right=True, backward=True)
_FLASH = attention(heads_first=False, bottom_right=True, packed=True)
_FLASH_BACKWARD = attention(heads_first=False, bottom_right=True, packed=True, backward=True)
_EFFICIENT = attention(heads_first=False, packed=True)
_EFFICIENT_BACKWARD = attention(heads_first=False, packed=True, backward=True)
_CUDNN = attention(heads_first=True, packed=True)
_CUDNN_BACKWARD = attention(heads_first=True, packed=True, backward=True)

_CUM = "cum_seq_q cum_seq_k max_q max_k"
_CU = "cu_seqlens_q cu_seqlens_k max_seqlen_q max_seqlen_k"
_SAVED = "out logsumexp"
_WINDOW = "window_size_left window_size_right"
_BIASED = "query key value attn_bias compute_log_sumexp dropout_p is_causal"
_FLASH_MASK = f"dropout_p softmax_scale causal {_WINDOW}"
_FLASH_GRAD = "dout q k v out softmax_lse dq dk dv"
# flash-attention 3 (hopper/flash_api.cpp): its own operators, and the Python ones around them, which add nothing.
_FLASH_3 = (
    "q k v k_new v_new q_v out cu_seqlens_q cu_seqlens_k cu_seqlens_k_new seqused_q seqused_k max_seqlen_q max_seqlen_k "
    "page_table kv_batch_idx leftpad_k rotary_cos rotary_sin seqlens_rotary q_descale k_descale v_descale softmax_scale "
    f"is_causal {_WINDOW}"
)
_FLASH_3_GRAD = (
    f"{_FLASH_GRAD} cu_seqlens_q cu_seqlens_k seqused_q seqused_k max_seqlen_q max_seqlen_k softmax_scale is_causal "
    f"{_WINDOW}"
)

_FORWARD_ROWS: dict[str, Operator] = {
    "aten::scaled_dot_product_attention": operator(_SDPA, "query key value attn_mask dropout_p is_causal"),
    "aten::_scaled_dot_product_flash_attention": operator(
        _SDPA_FLASH,
        "query key value dropout_p is_causal",
        "query key value q_descale k_descale v_descale dropout_p is_causal return_debug_mask scale",  # overload: fp8
    ),
    "aten::_scaled_dot_product_flash_attention_for_cpu": operator(_SDPA, "query key value dropout_p is_causal"),
    "aten::_scaled_dot_product_efficient_attention": operator(_SDPA, _BIASED),
    "aten::_scaled_dot_product_cudnn_attention": operator(_SDPA, _BIASED),
    "aten::_scaled_dot_product_fused_attention_overrideable": operator(
        _SDPA, "query key value attn_bias dropout_p is_causal"
    ),
    "aten::_flash_attention_forward": operator(
        _FLASH,
        f"query key value {_CUM} dropout_p is_causal return_debug_mask scale {_WINDOW} seqused_k alibi_slopes block_table",
        f"query key value {_CUM} dropout_p is_causal return_debug_mask q_descale k_descale v_descale scale {_WINDOW} "
        "seqused_k alibi_slopes",  # overload: fp8
        contents=_CUM,
    ),
    "aten::_efficient_attention_forward": operator(
        _EFFICIENT,
        f"query key value bias {_CU} dropout_p custom_mask_type compute_log_sumexp scale seqlen_k",
        contents=_CU,
    ),
    "aten::_cudnn_attention_forward": operator(
        _CUDNN, f"query key value attn_bias {_CUM} compute_log_sumexp dropout_p is_causal", contents=_CUM
    ),
    "flash_attn::_flash_attn_forward": operator(_FLASH, f"q k v {_FLASH_MASK}"),
    "flash_attn::_flash_attn_varlen_forward": operator(
        _FLASH,
        f"q k v {_CU} {_FLASH_MASK} softcap alibi_slopes return_softmax block_table leftpad_k seqused_k",
        contents=_CU,
    ),
    "flash_attn_3::fwd": operator(_FLASH, _FLASH_3, contents=_CU),
    "flash_attn_3::_flash_attn_forward": operator(_FLASH, _FLASH_3, contents=_CU),
    "flex_attention": operator(_SDPA, "query key value"),
}

_BACKWARD_ROWS: dict[str, Operator] = {
    "aten::_scaled_dot_product_flash_attention_backward": operator(
        _SDPA_FLASH_BACKWARD, f"grad_out query key value {_SAVED} {_CUM} dropout_p is_causal"
    ),
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": operator(
        _SDPA_BACKWARD, f"grad_out query key value {_SAVED} dropout_p is_causal"
    ),
    "aten::_scaled_dot_product_efficient_attention_backward": operator(
        _SDPA_BACKWARD,
        f"grad_out_ query key value attn_bias {_SAVED} philox_seed philox_offset dropout_p grad_input_mask is_causal",
    ),
    "aten::_scaled_dot_product_cudnn_attention_backward": operator(
        _SDPA_BACKWARD,
        f"grad_out query key value {_SAVED} philox_seed philox_offset attn_bias {_CUM} dropout_p is_causal",
    ),
    "aten::_scaled_dot_product_fused_attention_overrideable_backward": operator(
        _SDPA_BACKWARD, f"grad_out query key value attn_bias grad_input_mask {_SAVED} {_CUM} dropout_p is_causal"
    ),
    "aten::_flash_attention_backward": operator(
        _FLASH_BACKWARD,
        f"grad_out query key value {_SAVED} {_CUM} dropout_p is_causal rng_state unused scale {_WINDOW}",
        contents=_CUM,
    ),
    "aten::_efficient_attention_backward": operator(
        _EFFICIENT_BACKWARD,
        f"grad_out_ query key value bias out {_CU} logsumexp dropout_p philox_seed philox_offset custom_mask_type",
        contents=_CU,
    ),
    "aten::_cudnn_attention_backward": operator(
        _CUDNN_BACKWARD,
        f"grad_out query key value {_SAVED} philox_seed philox_offset attn_bias {_CUM} dropout_p is_causal",
        contents=_CUM,
    ),
    "flash_attn::_flash_attn_backward": operator(_FLASH_BACKWARD, f"{_FLASH_GRAD} {_FLASH_MASK}"),
    "flash_attn::_flash_attn_varlen_backward": operator(
        _FLASH_BACKWARD, f"{_FLASH_GRAD} {_CU} {_FLASH_MASK}", contents=_CU
    ),
    "flash_attn_3::bwd": operator(_FLASH_BACKWARD, _FLASH_3_GRAD, contents=_CU),
    "flash_attn_3::_flash_attn_backward": operator(
        _FLASH_BACKWARD,
        "dout q k v out softmax_lse cu_seqlens_q cu_seqlens_k sequed_q sequed_k max_seqlen_q max_seqlen_k dq dk dv "
        f"softmax_scale is_causal {_WINDOW}",
        contents=_CU,
    ),
    "flex_attention_backward": operator(_SDPA_BACKWARD, "query key value"),
}

ATTENTION = _FORWARD_ROWS | _BACKWARD_ROWS
# Higher-order operators, whose mask is a function.
FLEXIBLE_ATTENTION = ("flex_attention", "flex_attention_backward")
