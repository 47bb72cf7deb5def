"""Random valid calls of every operator of the table, each with its FLOPs by the definition of the operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st

from tests.flops.drawn import Draw, Drawn
from tests.flops.drawn_attention import CU, CUM, attention
from tests.flops.drawn_convolutions import convolution, convolution_backward, half_backward
from tests.flops.drawn_products import (
    batch_product,
    grouped,
    linear,
    matrix_vector,
    outer,
    product,
    recurrent_layer,
    recurrent_stack,
    vectors,
)

EIGHT_BITS = st.just(torch.float8_e4m3fn)
FOUR_OR_EIGHT_BITS = st.sampled_from([torch.float8_e4m3fn, torch.float4_e2m1fn_x2])
FLASH_ATTN: dict[str, Any] = {
    "heads_first": False,
    "bottom_right": True,
    "mask": "causal",
    "windows": True,
    "names": ("q", "k", "v"),
}
FLASH_ATTN_3: dict[str, Any] = FLASH_ATTN | {"mask": "is_causal", "packed": CU}
FLASH: dict[str, Any] = {"heads_first": False, "bottom_right": True, "windows": True, "packed": CUM}
EFFICIENT: dict[str, Any] = {"heads_first": False, "mask": "typed", "packed": CU, "rows_first": True}

# By operator, with the overload where it is not the only one.
CALLS: dict[str, Callable[[Draw], Drawn]] = {
    "aten::mm": product("self", "mat2"),
    "aten::_int_mm": product("self", "mat2", dtypes=st.just(torch.int8)),
    "aten::_scaled_mm": product("self", "mat2", dtypes=EIGHT_BITS),
    "aten::_scaled_mm_v2": product("self", "mat2", dtypes=FOUR_OR_EIGHT_BITS),
    "aten::addmm": product("mat1", "mat2"),
    "aten::_addmm_activation": product("mat1", "mat2"),
    "aten::bmm": batch_product("self", "mat2"),
    "aten::baddbmm": batch_product("batch1", "batch2"),
    "aten::addbmm": batch_product("batch1", "batch2"),
    "aten::mv": matrix_vector("self", "vec"),
    "aten::addmv": matrix_vector("mat", "vec"),
    "aten::dot": vectors("tensor"),
    "aten::vdot": vectors("other"),
    "aten::addr": outer,
    "aten::linear": linear("input", "weight"),
    "aten::mkldnn_linear": linear("self", "weight"),
    "mkldnn::_linear_pointwise": linear("X", "W"),
    "mkldnn::_linear_pointwise.binary": linear("X", "W", "other"),
    "aten::_grouped_mm": grouped(st.just(torch.bfloat16)),
    "aten::_scaled_grouped_mm": grouped(EIGHT_BITS),
    "aten::_scaled_grouped_mm_v2": grouped(FOUR_OR_EIGHT_BITS),
    "aten::mkldnn_rnn_layer": recurrent_layer("weight0", "weight1", 1),
    "aten::mkldnn_rnn_layer_backward": recurrent_layer("weight1", "weight2", 2),
    "aten::_cudnn_rnn": recurrent_stack(1),
    "aten::_cudnn_rnn_backward": recurrent_stack(2),
    "aten::miopen_rnn": recurrent_stack(1),
    "aten::miopen_rnn_backward": recurrent_stack(2),
    "aten::convolution": convolution("input", transposed=None),
    "aten::_convolution": convolution("input", transposed=None),
    "aten::convolution_overrideable": convolution("input", transposed=None),
    "aten::cudnn_convolution": convolution("self"),
    "aten::cudnn_convolution_transpose": convolution("self", transposed=True),
    "aten::cudnn_convolution_relu": convolution("self"),
    "aten::mkldnn_convolution": convolution("self"),
    "aten::miopen_convolution": convolution("self"),
    "aten::miopen_depthwise_convolution": convolution("self"),
    "aten::miopen_convolution_transpose": convolution("self", transposed=True),
    "aten::_slow_conv2d_forward": convolution("self", spatial=2, dilated=False),
    "aten::_conv_depthwise2d": convolution("self", spatial=2),
    "aten::conv_depthwise3d": convolution("self", spatial=3),
    "aten::convolution_backward": convolution_backward,
    "aten::convolution_backward_overrideable": convolution_backward,
    "aten::cudnn_convolution_backward_input": half_backward,
    "aten::cudnn_convolution_backward_weight": half_backward,
    "aten::miopen_convolution_backward_input": half_backward,
    "aten::miopen_convolution_backward_weight": half_backward,
    "aten::scaled_dot_product_attention": attention(heads_first=True),
    "aten::_scaled_dot_product_flash_attention": attention(heads_first=True, bottom_right=True),
    "aten::_scaled_dot_product_flash_attention.quantized": attention(heads_first=True, bottom_right=True),
    "aten::_scaled_dot_product_flash_attention_for_cpu": attention(heads_first=True),
    "aten::_scaled_dot_product_efficient_attention": attention(heads_first=True),
    "aten::_scaled_dot_product_cudnn_attention": attention(heads_first=True),
    "aten::_scaled_dot_product_fused_attention_overrideable": attention(heads_first=True),
    "aten::_flash_attention_forward": attention(**FLASH),
    "aten::_flash_attention_forward.quantized": attention(**FLASH),
    "aten::_efficient_attention_forward": attention(**EFFICIENT),
    "aten::_cudnn_attention_forward": attention(heads_first=True, packed=CUM),
    "flash_attn::_flash_attn_forward": attention(**FLASH_ATTN),
    "flash_attn::_flash_attn_varlen_forward": attention(**FLASH_ATTN, packed=CU, always_packed=True),
    "flash_attn_3::fwd": attention(**FLASH_ATTN_3),
    "flash_attn_3::_flash_attn_forward": attention(**FLASH_ATTN_3),
    "flex_attention": attention(heads_first=True, mask=None),
    "aten::_scaled_dot_product_flash_attention_backward": attention(heads_first=True, bottom_right=True, backward=True),
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": attention(heads_first=True, backward=True),
    "aten::_scaled_dot_product_efficient_attention_backward": attention(heads_first=True, backward=True),
    "aten::_scaled_dot_product_cudnn_attention_backward": attention(heads_first=True, backward=True),
    "aten::_scaled_dot_product_fused_attention_overrideable_backward": attention(heads_first=True, backward=True),
    "aten::_flash_attention_backward": attention(**FLASH, backward=True),
    "aten::_efficient_attention_backward": attention(**EFFICIENT, backward=True),
    "aten::_cudnn_attention_backward": attention(heads_first=True, packed=CUM, backward=True),
    "flash_attn::_flash_attn_backward": attention(**FLASH_ATTN, backward=True),
    "flash_attn::_flash_attn_varlen_backward": attention(**FLASH_ATTN, packed=CU, always_packed=True, backward=True),
    "flash_attn_3::bwd": attention(**FLASH_ATTN_3, backward=True),
    "flash_attn_3::_flash_attn_backward": attention(**FLASH_ATTN_3, backward=True),
    "flex_attention_backward": attention(heads_first=True, mask=None, backward=True),
}
