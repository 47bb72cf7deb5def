"""FLOP formulas against closed forms: single operators, and whole models whose totals are published or derived by hand."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mfu_doctor.flops.op_flops import OpFlops
from mfu_doctor.flops.table import TABLE
from mfu_doctor.flops.trace_arguments import Surroundings, recorded_flops
from mfu_doctor.trace import EventArgs

FLOAT, HALF, BF16 = "float", "c10::Half", "c10::BFloat16"


def args(*values: Any, dtype: str = FLOAT) -> EventArgs:
    """Recorded arguments: a tuple is a tensor's shape, a list of tuples a tensor list, anything else a printed scalar."""
    is_shape = [isinstance(v, tuple) for v in values]
    return EventArgs(
        dims=tuple(v if s else tuple(v) if _is_tensors(v) else () for v, s in zip(values, is_shape, strict=True)),
        types=tuple(
            dtype if s else "TensorList" if _is_tensors(v) else "Scalar" for v, s in zip(values, is_shape, strict=True)
        ),
        concrete=tuple("" if s or v is None else str(v) for v, s in zip(values, is_shape, strict=True)),
    )


def _is_tensors(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], tuple)


def cost(name: str, *values: Any, dtype: str = FLOAT) -> OpFlops:
    """FLOPs of one aten call, which must be known."""
    found = recorded_flops(f"aten::{name}", args(*values, dtype=dtype))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "values", "flops"),
    [
        ("mm", ((8, 16), (16, 32)), 8192),
        ("mm", ((8, 16), (16, 32), (8, 32)), 8192),  # the out= form of compiled code
        ("addmm", ((32,), (8, 16), (16, 32), 1, 1), 8192),
        ("_addmm_activation", ((32,), (8, 16), (16, 32), 1, 1), 8192),
        ("linear", ((8, 16), (32, 16), (32,)), 8192),
        ("linear", ((2, 4, 16), (32, 16)), 8192),
        ("mv", ((8, 16), (16,)), 256),
        ("addmv", ((8,), (8, 16), (16,)), 256),
        ("dot", ((16,), (16,)), 32),
        ("addr", ((8, 16), (8,), (16,)), 256),
        ("bmm", ((3, 8, 16), (3, 16, 32)), 24_576),
        ("baddbmm", ((3, 8, 32), (3, 8, 16), (3, 16, 32)), 24_576),
        ("addbmm", ((8, 32), (3, 8, 16), (3, 16, 32)), 24_576),
        ("bmm", ((6, 8, 16), (6, 16, 10)), 15_360),  # what einsum bhqd,bhkd becomes
        ("_grouped_mm", ((16, 32), (4, 32, 64), (4,)), 65_536),
        ("_grouped_mm", ((16, 32), (32, 64), (4,)), 65_536),
        ("_grouped_mm", ((4, 16, 32), (4, 32, 64)), 4 * 65_536),
        ("_scaled_mm", ((16, 32), (32, 64), (1,), (1,)), 65_536),
        ("_int_mm", ((32, 32), (32, 32)), 65_536),
        ("mkldnn_rnn_layer", ((5, 3, 10), (80, 10), (80, 20), (80,), (80,)), 2 * 15 * 80 * 30),
        ("mkldnn_rnn_layer_backward", ((5, 3, 10), (80, 10), (80, 20), (80,), (80,)), 144_000),
        ("_cudnn_rnn", ((5, 3, 10), [(80, 10), (80, 20), (80,), (80,)], 4), 72_000),
    ],
)
def test_matrix_products(name: str, values: tuple[Any, ...], flops: int) -> None:
    """2 M K N for every product; no bias, no gate activations."""
    found = cost(name, *values)
    assert (found.model, found.executed, found.causal) == (flops, flops, flops)


@pytest.mark.parametrize(
    ("mask", "flops"), [("[True, True, True, True]", 144_000), ("[False, False, False, True]", 120_000)]
)
def test_cudnn_is_asked_for_the_gradient_of_its_input_or_not(mask: str, flops: int) -> None:
    weights = [(80, 10), (80, 20), (80,), (80,)]
    tensors = ((5, 3, 10), weights, 4, (2560,), (1, 3, 20), (1, 3, 20), (5, 3, 20), (5, 3, 20), None, None)
    rest = (2, 20, 0, 1, False, 0.0, True, False, None, None, (100,), mask)
    assert cost("_cudnn_rnn_backward", *tensors, *rest).model == flops


def test_a_complex_product_is_four_real_ones() -> None:
    """(a + bi)(c + di) takes four multiplications."""
    assert cost("mm", (8, 16), (16, 32), dtype="c10::complex<float>").model == 32_768


def test_packed_fp4_holds_two_numbers_per_element() -> None:
    """torch's Float4_e2m1fn_x2 has half the elements that are multiplied."""
    packed = cost("_scaled_mm", (16, 16), (16, 64), dtype="c10::Float4_e2m1fn_x2")
    assert (packed.model, packed.dtype) == (65_536, "fp4")


@pytest.mark.parametrize(
    ("spelled", "short"),
    [(FLOAT, "fp32"), (HALF, "fp16"), (BF16, "bf16"), ("double", "fp64"), ("c10::Float8_e4m3fn", "fp8")],
)
def test_format_and_least_traffic_of_a_product(spelled: str, short: str) -> None:
    """The format is the operands'; the traffic is each matrix once."""
    found = cost("mm", (8, 16), (16, 32), dtype=spelled)
    size = {"fp64": 8, "fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1}[short]
    assert (found.dtype, found.bytes) == (short, (8 * 16 + 16 * 32 + 8 * 32) * size)
    assert found.gemm == (1, 8, 32, 16)


def conv(
    x: Sequence[int], w: Sequence[int], *, stride: int = 1, padding: int = 0, groups: int = 1, **more: Any
) -> OpFlops:
    """Forward convolution through aten::convolution."""
    transposed = more.get("transposed", False)
    return cost("convolution", tuple(x), tuple(w), None, [stride], [padding], [1], transposed, [0], groups)


def conv_backward(grad: Sequence[int], x: Sequence[int], w: Sequence[int], mask: list[bool], **more: Any) -> OpFlops:
    """Backward convolution through aten::convolution_backward."""
    rest = (more.get("transposed", False), [0], 1, mask)
    return cost("convolution_backward", tuple(grad), tuple(x), tuple(w), [0], [1], [0], [1], *rest)


@pytest.mark.parametrize(
    ("groups", "channels_in", "flops"),
    [(1, 4, 115_200), (4, 8, 57_600), (8, 8, 28_800)],
)
def test_grouped_and_depthwise_convolutions(groups: int, channels_in: int, flops: int) -> None:
    """The weight's shape holds the division by groups; PyTorch's own counter multiplies the gradient by them (4.5x)."""
    x, w = (2, channels_in, 10, 10), (8, channels_in // groups, 3, 3)
    assert conv(x, w, padding=1, groups=groups).model == flops
    assert conv_backward((2, 8, 10, 10), x, w, [True, True, False]).model == 2 * flops


@pytest.mark.parametrize(("w", "flops"), [((4, 8, 3, 3), 115_200), ((4, 4, 3, 3), 57_600)])
def test_transposed_convolutions_count_input_positions(w: tuple[int, ...], flops: int) -> None:
    """Each input position is spread over the kernel; the output's size does not matter."""
    assert conv((2, 4, 10, 10), w, stride=2, transposed=True).model == flops
    both = conv_backward((2, 8, 21, 21), (2, 4, 10, 10), w, [True, True, False], transposed=True)
    assert both.model == 2 * flops


@pytest.mark.parametrize(
    ("x", "w", "more", "flops"),
    [
        ((1, 80, 16_000), (512, 80, 10), {"stride": 5}, 2_620_620_800),
        ((1, 256, 32, 32), (256, 128, 4, 4), {"stride": 2, "padding": 1, "transposed": True}, 1_073_741_824),
    ],
)
def test_one_and_two_dimensional_convolutions_of_real_layers(
    x: tuple[int, ...], w: tuple[int, ...], more: dict[str, Any], flops: int
) -> None:
    """wav2vec's second layer and a DCGAN generator layer."""
    assert conv(x, w, **more).model == flops


def test_a_three_dimensional_convolution_with_unequal_strides() -> None:
    """R3D's stem."""
    found = cost(
        "convolution", (1, 3, 16, 112, 112), (64, 3, 3, 7, 7), None, [1, 2, 2], [1, 3, 3], [1, 1, 1], False, [0], 1
    )
    assert found.model == 2_832_334_848


def test_backends_keep_padding_and_stride_in_other_places() -> None:
    """cuDNN takes the padding third, mkldnn and MIOpen the bias; reading the wrong one changes the output size."""
    x, w = (1, 3, 224, 224), (64, 3, 7, 7)
    stem = 2 * 112 * 112 * 64 * 147
    assert cost("cudnn_convolution", x, w, [3, 3], [2, 2], [1, 1], 1, False, False, True).model == stem
    assert cost("mkldnn_convolution", x, w, None, [3, 3], [2, 2], [1, 1], 1).model == stem
    assert cost("miopen_convolution", x, w, None, [3, 3], [2, 2], [1, 1], 1, False, False).model == stem


def test_a_frozen_or_first_layer_has_one_gradient_pass() -> None:
    """The mask says which gradients are computed: assuming two overstates LoRA and every first layer."""
    x, w, grad = (2, 3, 8, 8), (4, 3, 3, 3), (2, 4, 6, 6)
    passes = [conv_backward(grad, x, w, [a, b, True]).model for a, b in ((True, True), (False, True), (False, False))]
    assert passes == [2 * passes[1], passes[1], 0]


def test_an_old_convolution_takes_its_output_from_its_gradient() -> None:
    """torch 1.8 traces print no strides; the paired backward's gradient has the output's shape."""
    bare = EventArgs(dims=((32, 3, 224, 224), (64, 3, 7, 7), (), (), (), (), (), ()), types=(FLOAT, FLOAT))
    assert recorded_flops("aten::cudnn_convolution", bare) is None
    found = recorded_flops("aten::cudnn_convolution", bare, Surroundings(output=(32, 64, 112, 112)))
    assert found is not None
    assert found.model == 32 * 2 * 112 * 112 * 64 * 147


def test_an_old_split_gradient_takes_its_shapes_from_its_parent() -> None:
    """`cudnn_convolution_backward_weight` does not record the weight's shape."""
    parent = EventArgs(dims=((2, 3, 8, 8), (2, 4, 6, 6), (4, 3, 3, 3)), types=(FLOAT, FLOAT, FLOAT))
    half = EventArgs(dims=((), (2, 4, 6, 6), (2, 3, 8, 8)), types=("GenericList", FLOAT, FLOAT))
    found = recorded_flops("aten::cudnn_convolution_backward_weight", half, Surroundings(parent=parent))
    assert found is not None
    assert (found.model, found.backward) == (2 * 2 * prod((4, 3, 3, 3)) * 36, True)


def test_missing_arguments_count_nothing_rather_than_something() -> None:
    """Unknown is None: coverage then says so."""
    assert recorded_flops("aten::mm", None) is None
    assert recorded_flops("aten::mm", EventArgs(dims=((8, 16), ()))) is None
    assert (
        recorded_flops("aten::convolution_backward", EventArgs(dims=((2, 4, 6, 6), (2, 3, 8, 8), (4, 3, 3, 3)))) is None
    )
    assert recorded_flops("aten::gelu", args((8, 8))) is None


ARGUMENT = st.one_of(
    st.just(()),
    st.tuples(*[st.integers(-1, 9)] * 2),
    st.tuples(*[st.integers(0, 9)] * 3),
    st.tuples(*[st.integers(0, 9)] * 4),
    st.tuples(st.tuples(st.integers(0, 9), st.integers(0, 9))),
)
PRINTED = st.sampled_from(["", "[0]", "[1, 1]", "[2, 2]", "[True, False]", "True", "False", "1", "-3", "nonsense"])


@given(st.sampled_from(sorted(TABLE)), st.lists(ARGUMENT, max_size=15), st.lists(PRINTED, max_size=15))
@settings(max_examples=1000, deadline=None)
@example("aten::_efficient_attention_forward", [(0, 0, 0, 0), (0, 0, 0, 0), (0, 0)], [])
def test_no_arguments_break_a_formula(name: str, dims: list[Any], printed: list[str]) -> None:
    """Traces come from other versions and other writers: what does not fit is unknown, never an error or a negative."""
    found = recorded_flops(name, EventArgs(dims=tuple(dims), types=(FLOAT,) * len(dims), concrete=tuple(printed)))
    assert found is None or (found.model >= 0 and found.executed >= found.causal >= 0)


def sdpa(q: tuple[int, ...], k: tuple[int, ...], *, causal: bool = False, v: tuple[int, ...] | None = None) -> OpFlops:
    """Fused attention forward on a CPU."""
    return cost("_scaled_dot_product_flash_attention_for_cpu", q, k, v or k, 0.0, causal)


def sdpa_backward(q: tuple[int, ...], k: tuple[int, ...], *, causal: bool = False) -> OpFlops:
    """Fused attention backward on a CPU."""
    return cost("_scaled_dot_product_flash_attention_for_cpu_backward", q, q, k, k, q, q[:3], 0.0, causal)


def test_attention_counts_model_and_executed_apart() -> None:
    """Backward is 2x forward for the model, 2.5x for what the kernel computes (it forms the scores again)."""
    q = (2, 3, 8, 16)
    assert sdpa(q, q).model == 24_576
    assert (sdpa_backward(q, q).model, sdpa_backward(q, q).executed) == (49_152, 61_440)
    long = (2, 12, 1024, 64)
    assert sdpa(long, long).model == 6_442_450_944
    assert (sdpa_backward(long, long).model, sdpa_backward(long, long).executed) == (12_884_901_888, 16_106_127_360)


def test_causal_attention_counts_unmasked_pairs() -> None:
    """T (T + 1) / 2 of T x T pairs; the full square stays the headline."""
    q = (2, 3, 8, 16)
    both = sdpa(q, q, causal=True), sdpa_backward(q, q, causal=True)
    assert sum(f.causal for f in both) == 41_472
    assert sum(f.model for f in both) == 73_728
    assert both[1].executed - both[1].skipped == 61_440 * 36 // 64


def test_grouped_query_attention_multiplies_per_query_head() -> None:
    """Llama-3-8B: 32 query heads share 8 key heads; full and causal squares."""
    q, kv = (1, 32, 8192, 128), (1, 8, 8192, 128)
    assert sdpa(q, kv).model == 1_099_511_627_776
    assert sdpa(q, kv, causal=True).causal == 549_822_922_752


def test_attention_layouts_agree() -> None:
    """[B, H, T, D], [B, T, H, D], and packed sequences of equal length are the same work."""
    want = cost(
        "_scaled_dot_product_flash_attention", (8, 16, 4096, 128), (8, 16, 4096, 128), (8, 16, 4096, 128), 0.0, True
    )
    bthd = ((8, 4096, 16, 128),) * 3
    packed = ((8 * 4096, 16, 128),) * 3
    inner = cost("_flash_attention_forward", *bthd, None, None, 4096, 4096, 0.0, True, False)
    varlen = cost("_flash_attention_forward", *packed, (9,), (9,), 4096, 4096, 0.0, True, False)
    efficient = cost("_efficient_attention_forward", *bthd, None, None, None, None, None, 0.0, 1, True)
    for found in (inner, varlen, efficient):
        assert (found.model, found.causal, found.executed) == (want.model, want.causal, want.executed)


def test_packed_sequences_of_unknown_length_are_unknown() -> None:
    """Their lengths are data; a bound would be a guess."""
    ragged = args((5000, 16, 128), (5000, 16, 128), (5000, 16, 128), (9,), (9,), 4096, 4096, 0.0, True, False)
    assert recorded_flops("aten::_flash_attention_forward", ragged) is None
