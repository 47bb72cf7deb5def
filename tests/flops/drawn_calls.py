"""Random valid calls of every operator of the table, each with its FLOPs counted without any formula of ours.

The counts come from the sizes that were drawn: multiplications are counted by the definition of the operator, masks one pair
at a time, and output sizes by torch's own shape inference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import torch
from hypothesis import strategies as st

Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]

SIZE = st.integers(1, 7)
FLOATS = st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64])
NUMBERS = st.one_of(FLOATS, st.just(torch.complex64))


@dataclass(frozen=True)
class Drawn:
    """A call: arguments by name (others take their default), result, and FLOPs by definition."""

    given: dict[str, Any]
    model: int
    causal: int
    executed: int
    out: torch.Tensor | None = None

    @staticmethod
    def plain(given: dict[str, Any], flops: int, out: torch.Tensor | None = None) -> Drawn:
        return Drawn(given, flops, flops, flops, out)


def tensor(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def sizes(draw: Draw, count: int) -> list[int]:
    return [draw(SIZE) for _ in range(count)]


def product(a: str, b: str, *, dtypes: st.SearchStrategy[torch.dtype] = NUMBERS) -> Callable[[Draw], Drawn]:
    """[M, K] @ [K, N]; complex numbers take four real products, packed fp4 holds two numbers."""

    def drawn(draw: Draw) -> Drawn:
        m, n, k = sizes(draw, 3)
        dtype = draw(dtypes)
        inner = 2 * k if dtype == torch.float4_e2m1fn_x2 else k
        flops = 2 * m * n * inner * (4 if dtype.is_complex else 1)
        return Drawn.plain({a: tensor(m, k, dtype=dtype), b: tensor(k, n, dtype=dtype)}, flops)

    return drawn


def batch_product(a: str, b: str) -> Callable[[Draw], Drawn]:
    def drawn(draw: Draw) -> Drawn:
        batch, m, n, k = sizes(draw, 4)
        dtype = draw(NUMBERS)
        flops = 2 * batch * m * n * k * (4 if dtype.is_complex else 1)
        return Drawn.plain({a: tensor(batch, m, k, dtype=dtype), b: tensor(batch, k, n, dtype=dtype)}, flops)

    return drawn


def matrix_vector(a: str, b: str) -> Callable[[Draw], Drawn]:
    def drawn(draw: Draw) -> Drawn:
        (m, k), dtype = sizes(draw, 2), draw(FLOATS)
        return Drawn.plain({a: tensor(m, k, dtype=dtype), b: tensor(k, dtype=dtype)}, 2 * m * k)

    return drawn


def vectors(b: str) -> Callable[[Draw], Drawn]:
    def drawn(draw: Draw) -> Drawn:
        (k,), dtype = sizes(draw, 1), draw(FLOATS)
        return Drawn.plain({"self": tensor(k, dtype=dtype), b: tensor(k, dtype=dtype)}, 2 * k)

    return drawn


def outer(draw: Draw) -> Drawn:
    m, n = sizes(draw, 2)
    return Drawn.plain({"self": tensor(m, n), "vec1": tensor(m), "vec2": tensor(n)}, 2 * m * n)


def linear(x: str, weight: str, other: str | None = None) -> Callable[[Draw], Drawn]:
    """Input with any number of leading dimensions; `other` is added to the result by a fused operator."""

    def drawn(draw: Draw) -> Drawn:
        lead = draw(st.lists(SIZE, min_size=1, max_size=3))
        ins, outs = sizes(draw, 2)
        given = {x: tensor(*lead, ins), weight: tensor(outs, ins)}
        if other is not None:
            given[other] = tensor(*lead, outs)
        return Drawn.plain(given, 2 * prod(lead) * ins * outs)

    return drawn


def grouped(dtypes: st.SearchStrategy[torch.dtype]) -> Callable[[Draw], Drawn]:
    """Experts: groups split the rows, the inner dimension, the columns, or are a batch."""

    def drawn(draw: Draw) -> Drawn:
        groups, m, n, k = sizes(draw, 4)
        dtype, split = draw(dtypes), draw(st.sampled_from("mknb"))
        shapes = {
            "m": ((m, k), (groups, k, n)),
            "k": ((m, k), (k, n)),
            "n": ((groups, m, k), (k, n)),
            "b": ((groups, m, k), (groups, k, n)),
        }
        a, b = (tensor(*shape, dtype=dtype) for shape in shapes[split])
        packed = 2 if dtype == torch.float4_e2m1fn_x2 else 1
        return Drawn.plain({"self": a, "mat2": b}, 2 * m * n * k * packed * (groups if split == "b" else 1))

    return drawn


def recurrent_layer(first: str, second: str, passes: int) -> Callable[[Draw], Drawn]:
    def drawn(draw: Draw) -> Drawn:
        time, batch, ins, hidden = sizes(draw, 4)
        gates = draw(st.sampled_from([1, 3, 4])) * hidden
        given = {"input": tensor(time, batch, ins), first: tensor(gates, ins), second: tensor(gates, hidden)}
        return Drawn.plain(given, passes * 2 * time * batch * gates * (ins + hidden))

    return drawn


def recurrent_stack(passes: int) -> Callable[[Draw], Drawn]:
    """A stack of layers; packed sequences have one dimension of tokens."""

    def drawn(draw: Draw) -> Drawn:
        tokens, layers = draw(st.lists(SIZE, min_size=1, max_size=2)), draw(st.integers(1, 3))
        ins, hidden = sizes(draw, 2)
        weights, flops, width = [], 0, ins
        for _ in range(layers):
            weights += [tensor(4 * hidden, width), tensor(4 * hidden, hidden), tensor(4 * hidden), tensor(4 * hidden)]
            flops += 2 * prod(tokens) * 4 * hidden * (width + hidden)
            width = hidden
        return Drawn.plain({"input": tensor(*tokens, ins), "weight": weights}, passes * flops)

    return drawn


@dataclass(frozen=True)
class Convolution:
    """Operands of a drawn convolution, its arguments, its result and the FLOPs of one pass."""

    x: torch.Tensor
    weight: torch.Tensor
    arguments: dict[str, Any]
    out: torch.Tensor
    flops: int


def draw_convolution(
    draw: Draw, *, spatial: int | None = None, transposed: bool = False, dilated: bool = True
) -> Convolution:
    dims = spatial or draw(st.integers(1, 3))
    batch, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    ins, outs = draw(st.integers(1, 2)), draw(st.integers(1, 2))  # in each group
    x = tensor(batch, groups * ins, *(draw(st.integers(5, 8)) for _ in range(dims)), dtype=draw(FLOATS))
    kernel = [draw(st.integers(1, 3)) for _ in range(dims)]
    weight = tensor(*((groups * ins, outs) if transposed else (groups * outs, ins)), *kernel, dtype=x.dtype)
    stride = [draw(st.integers(1, 3)) for _ in range(dims)]
    padding = [draw(st.integers(0, 1)) if k > 1 else 0 for k in kernel]
    dilation = [draw(st.integers(1, 2)) if dilated else 1 for _ in range(dims)]
    out = torch.ops.aten.convolution.default(x, weight, None, stride, padding, dilation, transposed, [0] * dims, groups)
    positions = x.shape[2:] if transposed else out.shape[2:]
    arguments = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "transposed": transposed,
        "output_padding": [0] * dims,
        "kernel_size": kernel,
    }
    return Convolution(x, weight, arguments, out, 2 * batch * groups * ins * outs * prod(kernel) * prod(positions))


def convolution(x: str, **options: Any) -> Callable[[Draw], Drawn]:
    """`transposed` None: as drawn."""

    def drawn(draw: Draw) -> Drawn:
        chosen = options | ({"transposed": draw(st.booleans())} if options.get("transposed", False) is None else {})
        made = draw_convolution(draw, **chosen)
        return Drawn.plain({x: made.x, "weight": made.weight} | made.arguments, made.flops, made.out)

    return drawn


def convolution_backward(draw: Draw) -> Drawn:
    made = draw_convolution(draw, transposed=draw(st.booleans()))
    mask = [draw(st.booleans()) for _ in range(3)]
    given = {"grad_output": made.out, "input": made.x, "weight": made.weight, "output_mask": mask}
    return Drawn.plain(given | made.arguments, made.flops * (mask[0] + mask[1]))


def half_backward(draw: Draw) -> Drawn:
    made = draw_convolution(draw)
    return Drawn.plain({"self": made.x, "grad_output": made.out, "weight": made.weight} | made.arguments, made.flops)


@dataclass(frozen=True)
class Attention:
    """How a family of attention operators takes its arguments.

    `mask`: "causal" (an argument of that name), "is_causal", "typed" (custom_mask_type) or None.
    `packed`: names of both offsets and both greatest lengths.
    """

    heads_first: bool
    bottom_right: bool = False
    mask: str | None = "is_causal"
    windows: bool = False
    packed: tuple[str, str, str, str] | None = None
    always_packed: bool = False
    rows_first: bool = False  # packed rows have a leading dimension of 1
    names: tuple[str, str, str] = ("query", "key", "value")
    backward: bool = False


CUM = ("cum_seq_q", "cum_seq_k", "max_q", "max_k")
CU = ("cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k")


def attention(**options: Any) -> Callable[[Draw], Drawn]:
    family = Attention(**options)

    def drawn(draw: Draw) -> Drawn:
        batch, queries, keys, width, value_width = sizes(draw, 5)
        key_heads = draw(st.integers(1, 3))
        heads = key_heads * draw(st.integers(1, 3))  # grouped queries
        packed = family.packed is not None and (family.always_packed or draw(st.booleans()))
        dtype = draw(FLOATS)

        def operand(length: int, count: int, size: int) -> torch.Tensor:
            if packed:
                rows = (1, batch * length) if family.rows_first else (batch * length,)
                return tensor(*rows, count, size, dtype=dtype)
            return tensor(batch, *((count, length) if family.heads_first else (length, count)), size, dtype=dtype)

        operands = (
            operand(queries, heads, width),
            operand(keys, key_heads, width),
            operand(keys, key_heads, value_width),
        )
        arguments, seen = _mask(draw, family, queries, keys)
        if family.packed is not None:
            arguments |= dict(zip(family.packed, _offsets(batch, queries, keys), strict=True)) if packed else {}
        per_pair = 2 * batch * heads * (width + value_width)
        products = (2, 2 * batch * heads * (3 * width + 2 * value_width)) if family.backward else (1, per_pair)
        return Drawn(
            dict(zip(family.names, operands, strict=True)) | arguments,
            model=products[0] * per_pair * queries * keys,
            causal=products[0] * per_pair * seen,
            executed=products[1] * queries * keys,
        )

    return drawn


def _offsets(batch: int, queries: int, keys: int) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    begin = torch.arange(batch + 1, dtype=torch.int32)
    return begin * queries, begin * keys, queries, keys


def _mask(draw: Draw, family: Attention, queries: int, keys: int) -> tuple[dict[str, Any], int]:
    """Arguments of a drawn mask, and the pairs that it leaves, counted one at a time."""
    behind, ahead, bottom_right = None, None, family.bottom_right
    arguments: dict[str, Any] = {}
    if family.windows:
        behind, ahead = (draw(st.sampled_from([-1, 0, 1, 3])) for _ in range(2))
        arguments |= {"window_size_left": behind, "window_size_right": ahead}
    if family.mask == "typed":
        kind = draw(st.integers(0, 2))
        arguments["custom_mask_type"] = kind
        ahead, bottom_right = 0 if kind else None, kind == 2
    elif family.mask is not None:
        arguments[family.mask] = draw(st.booleans())
        ahead = 0 if arguments[family.mask] else ahead
    diagonal = keys - queries if bottom_right else 0
    pairs = [(i + diagonal, j) for i in range(queries) for j in range(keys)]
    seen = [
        (behind is None or behind < 0 or j >= place - behind) and (ahead is None or ahead < 0 or j <= place + ahead)
        for place, j in pairs
    ]
    return arguments, sum(seen)


EIGHT_BITS = st.just(torch.float8_e4m3fn)
FOUR_OR_EIGHT_BITS = st.sampled_from([torch.float8_e4m3fn, torch.float4_e2m1fn_x2])
FLASH_ATTN: dict[str, Any] = {
    "heads_first": False,
    "bottom_right": True,
    "mask": "causal",
    "windows": True,
    "names": ("q", "k", "v"),
}
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
    "flex_attention_backward": attention(heads_first=True, mask=None, backward=True),
}
