"""Schemas of the table's operators: torch's own where this torch has the operator, else written down here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tests.flops.drawn import tensor

# flash-attn 2.8 (flash_attn/flash_attn_interface.py), torch 1.8 (native_functions.yaml: `cudnn_convolution_backward`, whose
# arguments its two halves are counted by), and torch._higher_order_ops.flex_attention.
_FLASH_MASK = (
    "float dropout_p, float softmax_scale, bool causal, int window_size_left, int window_size_right, float softcap, "
    "Tensor? alibi_slopes"
)
_LENGTHS = "Tensor cu_seqlens_q, Tensor cu_seqlens_k, int max_seqlen_q, int max_seqlen_k"
_GRADIENTS = (
    "Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor softmax_lse, Tensor? dq, Tensor? dk, Tensor? dv"
)
_HALF = "Tensor self, Tensor grad_output, Tensor weight, int[] padding, int[] stride, int[] dilation, int groups"
# flash-attention 3 (hopper/flash_api.cpp and flash_attn_interface.py)
_LENGTHS_3 = (
    "Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, {new}Tensor? {used}_q, Tensor? {used}_k, int? max_seqlen_q, "
    "int? max_seqlen_k"
)
_MASK_3 = "float? softmax_scale, bool is_causal, int window_size_left, int window_size_right"
_FORWARD_3 = (
    "Tensor q, Tensor k, Tensor v, Tensor? k_new, Tensor? v_new, Tensor? q_v, Tensor? out, "
    f"{_LENGTHS_3.format(new='Tensor? cu_seqlens_k_new, ', used='seqused')}, Tensor? page_table, Tensor? kv_batch_idx, "
    "Tensor? leftpad_k, Tensor? rotary_cos, Tensor? rotary_sin, Tensor? seqlens_rotary, Tensor? q_descale, Tensor? k_descale, "
    f"Tensor? v_descale, {_MASK_3}, int attention_chunk, float softcap"
)
_WRITTEN = {
    "flash_attn_3::fwd": _FORWARD_3,
    "flash_attn_3::_flash_attn_forward": _FORWARD_3,
    "flash_attn_3::bwd": f"{_GRADIENTS}, {_LENGTHS_3.format(new='', used='seqused')}, {_MASK_3}, float softcap",
    "flash_attn_3::_flash_attn_backward": (
        "Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor softmax_lse, "
        f"{_LENGTHS_3.format(new='', used='sequed')}, Tensor? dq, Tensor? dk, Tensor? dv, {_MASK_3}, float softcap"
    ),
    "flash_attn::_flash_attn_forward": f"Tensor q, Tensor k, Tensor v, {_FLASH_MASK}, bool return_softmax",
    "flash_attn::_flash_attn_varlen_forward": (
        f"Tensor q, Tensor k, Tensor v, {_LENGTHS}, {_FLASH_MASK}, bool return_softmax, Tensor? block_table, "
        "Tensor? leftpad_k, Tensor? seqused_k, bool zero_tensors"
    ),
    "flash_attn::_flash_attn_backward": f"{_GRADIENTS}, {_FLASH_MASK}, bool deterministic, Tensor? rng_state",
    "flash_attn::_flash_attn_varlen_backward": (
        f"{_GRADIENTS}, {_LENGTHS}, {_FLASH_MASK}, bool deterministic, Tensor? rng_state, bool zero_tensors"
    ),
    "aten::cudnn_convolution_backward_input": _HALF,
    "aten::cudnn_convolution_backward_weight": _HALF,
    "aten::miopen_convolution_backward_input": _HALF,
    "aten::miopen_convolution_backward_weight": _HALF,
    "flex_attention": "Tensor query, Tensor key, Tensor value",
    "flex_attention_backward": "Tensor query, Tensor key, Tensor value, Tensor out, Tensor logsumexp",
    "mkldnn::_linear_pointwise": "Tensor X, Tensor W, Tensor? B, str attr, Scalar?[] scalars, str? algorithm",
    "mkldnn::_linear_pointwise.binary": "Tensor X, Tensor other, Tensor W, Tensor? B, str attr",
}


def overloads(name: str) -> dict[str, Any]:
    """Schemas of an operator in this torch by overload; {} where it has none."""
    namespace, _, own = name.rpartition("::")
    packet = getattr(getattr(torch.ops, namespace), own, None) if namespace else None
    return {o: getattr(packet, o)._schema for o in packet.overloads()} if packet is not None else {}


def schema_of(key: str) -> Any:
    """The schema of an operator ("aten::mm") or of one of its overloads ("mkldnn::_linear_pointwise.binary")."""
    name, _, overload = key.partition(".")
    found = overloads(name).get(overload or "default")
    return found if found is not None else torch._C.parse_schema(f"{key}({_WRITTEN[key]}) -> Tensor")


def filled(schema: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a call: those given, defaults, and for the rest something of the right type that no formula reads."""
    return {a.name: given[a.name] if a.name in given else _other(a) for a in schema.arguments}


def _other(argument: Any) -> Any:
    if argument.has_default_value():
        return argument.default_value
    kind = str(argument.type)
    if kind.startswith("Optional") or argument.name.startswith("cum_seq"):
        return None  # offsets that are not given: torch passes an undefined tensor
    if kind.startswith("List"):
        return {"List[Tensor]": [tensor(1)], "List[bool]": [True, False], "List[int]": [1]}.get(kind, [])
    return {"Tensor": tensor(1), "bool": False, "int": 1, "float": 0.0, "str": "none", "number": 1}[kind]
