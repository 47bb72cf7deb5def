"""FLOPs of single operators as torch dispatches them live; each row has a closed form in its shapes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("torch", reason="torch is not installed")
import torch
from torch import nn
from torch.nn import functional

from mfu_doctor import count_flops
from mfu_doctor.flops.masks import Mask

A, B = torch.randn(8, 16), torch.randn(16, 32)
BATCH_A, BATCH_B = torch.randn(3, 8, 16), torch.randn(3, 16, 32)
HEADS = torch.randn(2, 3, 8, 16)
INTS = torch.ones(32, 32, dtype=torch.int8)
ENDS = torch.tensor([4, 8, 12, 16], dtype=torch.int32)


@pytest.mark.parametrize(
    ("call", "flops"),
    [
        (lambda: torch.mm(A, B), 8_192),
        (lambda: torch.ops.aten.mm.default(self=A, mat2=B), 8_192),
        (lambda: functional.linear(A, B.T, torch.ones(32)), 8_192),
        (lambda: torch.mv(A, torch.ones(16)), 256),
        (lambda: torch.dot(torch.ones(16), torch.ones(16)), 32),
        (lambda: torch.bmm(BATCH_A, BATCH_B), 24_576),
        (lambda: torch.baddbmm(torch.ones(3, 8, 32), BATCH_A, BATCH_B), 24_576),
        (lambda: torch.addbmm(torch.ones(8, 32), BATCH_A, BATCH_B), 24_576),
        (lambda: torch.addr(torch.ones(8, 32), torch.ones(8), torch.ones(32)), 512),
        (lambda: torch.einsum("bhqd,bhkd->bhqk", torch.ones(2, 3, 8, 16), torch.ones(2, 3, 10, 16)), 15_360),
        (lambda: torch.mm(A.to(torch.complex64), B.to(torch.complex64)), 32_768),
        (lambda: torch._int_mm(INTS, INTS), 65_536),
        (lambda: torch.mm(A, B, out=torch.empty(8, 32)), 8_192),
        (lambda: functional.scaled_dot_product_attention(HEADS, HEADS, HEADS), 24_576),
    ],
)
def test_products(call: Callable[[], object], flops: int) -> None:
    counted = count_flops(call)
    assert (counted.model, counted.forward, counted.executed) == (flops, flops, flops)
    with torch.inference_mode():
        assert count_flops(call).model == flops


def test_grouped_and_scaled_products() -> None:
    """Experts' and 8-bit products, on the meta device where the CPU has no kernel for them."""
    with torch.device("meta"):
        tokens, experts = torch.ones(16, 32, dtype=torch.bfloat16), torch.ones(4, 32, 64, dtype=torch.bfloat16)
        ends = torch.ones(4, dtype=torch.int32)
        eight = torch.ones(16, 32, dtype=torch.float8_e4m3fn), torch.ones(64, 32, dtype=torch.float8_e4m3fn).T
        one = torch.ones(())
    assert count_flops(lambda: torch._grouped_mm(tokens, experts, ends)).model == 65_536
    scaled = count_flops(lambda: torch._scaled_mm(*eight, one, one, out_dtype=torch.bfloat16))
    assert scaled.by_dtype == {"float8_e4m3fn": 65_536}


@pytest.mark.parametrize(
    ("layer", "shape", "forward"),
    [
        (lambda: nn.Conv2d(4, 8, 3, padding=1), (2, 4, 10, 10), 115_200),
        (lambda: nn.Conv2d(8, 8, 3, padding=1, groups=4), (2, 8, 10, 10), 57_600),
        (lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8), (2, 8, 10, 10), 28_800),
        (lambda: nn.ConvTranspose2d(4, 8, 3, stride=2), (2, 4, 10, 10), 115_200),
        (lambda: nn.ConvTranspose2d(4, 8, 3, stride=2, groups=2), (2, 4, 10, 10), 57_600),
        (lambda: nn.LSTM(10, 20), (5, 3, 10), 72_000),
    ],
)
def test_layers_whose_backward_is_twice_forward(
    layer: Callable[[], nn.Module], shape: tuple[int, ...], forward: int
) -> None:
    """Grouped convolutions too, whose weight gradient torch's own counter multiplies by the groups."""
    module, x = layer(), torch.randn(shape, requires_grad=True)
    counted = count_flops(lambda: torch.autograd.backward(first(module(x)).sum()))
    assert (counted.forward, counted.backward) == (forward, 2 * forward)


def first(output: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def test_a_gru_has_no_gradient_of_its_first_state() -> None:
    gru, x = nn.GRU(10, 20), torch.randn(5, 3, 10, requires_grad=True)
    counted = count_flops(lambda: torch.autograd.backward(gru(x)[0].sum()))
    assert (counted.forward, counted.backward) == (54_000, 100_800)


@pytest.mark.parametrize(
    ("shape", "causal", "forward", "executed_backward"),
    [
        ((2, 3, 8, 16), False, 24_576, 61_440),
        ((2, 3, 8, 16), True, 24_576, 61_440),
        ((2, 12, 1024, 64), False, 6_442_450_944, 16_106_127_360),
    ],
)
def test_attention_counts_model_causal_and_executed_apart(
    shape: tuple[int, int, int, int], forward: int, executed_backward: int, *, causal: bool
) -> None:
    """The fused backward computes QK' again, which is no work of the model; a causal mask leaves T (T + 1) / 2 pairs."""
    q, k, v = (torch.randn(shape, requires_grad=True) for _ in range(3))

    def step() -> None:
        torch.autograd.backward(functional.scaled_dot_product_attention(q, k, v, is_causal=causal).sum())

    counted = count_flops(step)
    assert (counted.forward, counted.backward) == (forward, 2 * forward)
    assert counted.executed == forward + executed_backward
    tokens = shape[2]
    assert counted.causal * tokens * tokens == counted.model * Mask(ahead=0 if causal else None).pairs(tokens, tokens)


def test_the_alignment_of_a_causal_mask_is_the_operators() -> None:
    """128 queries on 1024 keys: 122,944 pairs bottom right and 8,256 top left (see tests/flops/test_masks.py)."""
    q, k = (torch.empty(1, length, 8, 64, dtype=torch.float16, device="meta") for length in (128, 1024))

    def efficient(mask_type: int) -> object:
        rest = (None, None, None, None, None, 0.0, mask_type)
        return torch.ops.aten._efficient_attention_forward.default(q, k, k, *rest)

    def flash() -> object:
        return torch.ops.aten._flash_attention_forward.default(q, k, k, None, None, 128, 1024, 0.0, True, False)

    assert count_flops(efficient, 1).causal == 8 * 8_256 * 2 * 128
    assert count_flops(efficient, 2).causal == 251_789_312
    assert count_flops(flash).causal == 251_789_312
    assert count_flops(flash).model == 8 * 128 * 1024 * 2 * 128


def test_packed_sequences_whose_offsets_have_no_values_are_unknown() -> None:
    """On the meta device; one long sequence of all tokens would be a guess."""
    q = torch.empty(10, 2, 8, dtype=torch.float16, device="meta")
    starts = torch.empty(3, dtype=torch.int32, device="meta")
    operator = torch.ops.aten._flash_attention_forward.default
    counted = count_flops(lambda: operator(q, q, q, starts, starts, 7, 7, 0.0, True, False))
    assert (counted.model, counted.unknown) == (0, {"aten::_flash_attention_forward": 1})


def test_flexible_attention_is_the_full_square_and_says_so() -> None:
    """A higher-order operator, whose mask is data; torch runs it through Dynamo even in eager mode."""
    from torch.nn.attention import flex_attention as flex

    q = torch.randn(1, 2, 16, 8)
    before = flex._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG
    flex._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = True  # else torch warns that it is slow
    try:
        counted = count_flops(lambda: flex.flex_attention(q, q, q))
    finally:
        flex._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = before
    assert counted.by_op == {"flex_attention": 2 * 2 * 2 * 16 * 16 * 8}
    assert any("without its mask" in note for note in counted.notes)


def test_nested_tensors_are_counted_by_their_parts() -> None:
    """The tokens that are there, without padding."""
    lines = torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(5, 8)], layout=torch.jagged)
    assert count_flops(nn.Linear(8, 4), lines).forward == 2 * 8 * 8 * 4


def test_matrix_work_without_a_formula_is_unknown() -> None:
    """Torch's own operators too: an inverse is no product, and is not zero either."""
    counted = count_flops(lambda: torch.linalg.inv(torch.eye(4)))
    assert counted.model == 0
    assert counted.unknown == {"aten::linalg_inv_ex": 1}
