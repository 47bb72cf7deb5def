"""broadcast-product: products that are stored and summed become matmuls; masks, weights and norms are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import MeasuredPeak
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.kernels.broadcast_product import broadcast_product
from mfu_doctor.rules.kernels.unfused_elementwise import unfused_elementwise
from tests.rules.drawing import POINTWISE, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

HEADS, N, D = 8, 64, 16
Q, K = [HEADS, N, 1, D], [HEADS, 1, N, D]
ALL = [HEADS, N, N, D]
ENGINE = "autograd::engine::evaluate_function: "
PRODUCT_FLOPS = 2 * HEADS * N * N * D  # of the matmul instead
MATMUL = 1024  # 2 * 1024^3 FLOP in 1,000 us
MATMUL_RATE = 2 * MATMUL**3 / 1000  # FLOP per us


class Drawing:
    """Steps of a matmul of 1,000 us and what a test adds, on a GPU or a CPU."""

    def __init__(self, drawn: Timeline, *, device: bool) -> None:
        self.drawn, self.is_device = drawn, device

    def op(self, name: str, us: int, *shapes: Sequence[int], **args: Any) -> None:
        """An operator on float tensors."""
        kernel = {"kernel": us, "kernel_name": POINTWISE, "host": 10} if self.is_device else {"host": us}
        dims = [list(shape) for shape in shapes]
        concrete = args.pop("concrete", None)
        if concrete is not None:  # what is printed follows the first argument
            dims, concrete = [*dims, *([[]] * len(concrete))], [*[""] * len(dims), *concrete]
        types = ["float" if shape else "" for shape in dims]
        self.drawn.op(name, dims=dims, types=types, concrete=concrete, **kernel, **args)

    def matmul(self) -> None:
        self.op("aten::mm", 1000, (MATMUL, MATMUL), (MATMUL, MATMUL))

    def product(self, *, sequence: int | None = None) -> None:
        """(q[:, :, None] * k[:, None]).sum(-1): 3,000 us and 1,000 us."""
        self.op("aten::mul", 3000, Q, K, sequence=sequence)
        self.op("aten::sum", 1000, ALL, concrete=["[-1]", "False", ""])

    def backward(self, sequence: int) -> None:
        """Both gradients of the product: 8,000 us."""
        with self.drawn.span(f"{ENGINE}MulBackward0", "cpu_op", sequence=sequence):
            for operand in (K, Q):
                self.op("aten::mul", 3000, ALL, operand)
                self.op("aten::sum", 1000, ALL, concrete=["[2]", "True", ""])


def drawing(draw: Any, *, device: bool = False, matmul: bool = True) -> Run:
    """A run of equal steps."""

    def body(drawn: Timeline) -> None:
        one = Drawing(drawn, device=device)
        if matmul:
            one.matmul()
        draw(one)

    return run_of(steps(body, device=device))


def following(
    first: str, *shapes: Sequence[int], then: str = "aten::sum", read: Sequence[int] = ALL, dims: str = "[-1]"
) -> Run:
    """An operator of 3,000 us, and one of 1,000 us that reads a tensor of this shape."""

    def draw(one: Drawing) -> None:
        one.op(first, 3000, *shapes)
        one.op(then, 1000, read, concrete=[dims, "False", ""])

    return drawing(draw)


@pytest.mark.parametrize("device", [False, True])
def test_product_and_sum_become_a_matmul_at_the_rate_of_the_others(device: bool) -> None:
    price = price_us(broadcast_product, drawing(Drawing.product, device=device))
    assert price.mid_ns == close(4000 - PRODUCT_FLOPS / MATMUL_RATE)
    assert price.low_ns == close(4000 - 2 * PRODUCT_FLOPS / MATMUL_RATE)


@pytest.mark.parametrize("device", [False, True])
def test_their_backward_goes_with_them(device: bool) -> None:
    number = iter(range(1, 1000))

    def draw(one: Drawing) -> None:
        this = next(number)
        one.product(sequence=this)
        one.backward(this)

    price = price_us(broadcast_product, drawing(draw, device=device))
    assert price.mid_ns == close(4000 + 8000 - 3 * PRODUCT_FLOPS / MATMUL_RATE)


def test_the_fix_is_the_sum_as_einsum_writes_it() -> None:
    finding = found(broadcast_product, drawing(Drawing.product))
    assert 'torch.einsum("abd,acd->abc", a, b)' in finding.fix


def test_with_a_softmax_between_it_is_an_attention() -> None:
    def draw(one: Drawing) -> None:
        one.product()
        one.op("aten::div", 10, [HEADS, N, N])
        one.op("aten::softmax", 10, [HEADS, N, N])
        one.op("aten::unsqueeze", 2, [HEADS, N, N])
        one.op("aten::mul", 3000, [HEADS, N, N, 1], K)
        one.op("aten::sum", 1000, ALL, concrete=["[2]", "False", ""])

    finding = found(broadcast_product, drawing(draw))
    assert "2 products per step" in finding.summary
    assert "scaled_dot_product_attention" in finding.fix


@pytest.mark.parametrize("square", ["aten::pow", "aten::square"])
def test_squared_differences_of_all_pairs_are_a_matmul_too(square: str) -> None:
    def draw(one: Drawing) -> None:
        one.op("aten::sub", 2000, Q, K)
        one.op(square, 1000, ALL, concrete=["2"] if square == "aten::pow" else None)
        one.op("aten::sum", 1000, ALL, concrete=["[-1]", "False", ""])

    run = drawing(draw)
    assert "torch.cdist" in found(broadcast_product, run).fix
    assert price_us(broadcast_product, run).mid_ns == close(4000 - PRODUCT_FLOPS / MATMUL_RATE)


@pytest.mark.parametrize(("order", "is_distance"), [("2", True), ("2.", True), ("", True), ("1", False)])
def test_a_norm_of_differences_is_a_distance(order: str, is_distance: bool) -> None:
    def draw(one: Drawing) -> None:
        one.op("aten::sub", 3000, Q, K)
        one.op("aten::linalg_vector_norm", 1000, ALL, concrete=[order, "[-1]", "False", ""])

    if is_distance:
        assert "torch.cdist" in found(broadcast_product, drawing(draw)).fix
    else:
        silent(broadcast_product, drawing(draw))


def test_a_mean_over_all_squared_differences_is_no_distance() -> None:
    def draw(one: Drawing) -> None:
        one.op("aten::sub", 2000, Q, K)
        one.op("aten::square", 1000, ALL)
        one.op("aten::mean", 1000, ALL, concrete=[""])

    silent(broadcast_product, drawing(draw))


def test_differences_that_something_else_needs_too_are_made_all_the_same() -> None:
    """A force, or a network of positions: distance and direction of each pair."""

    def draw(one: Drawing) -> None:
        one.op("aten::sub", 2000, Q, K)
        one.op("aten::square", 1000, ALL)
        one.op("aten::sum", 1000, ALL, concrete=["[-1]", "False", ""])
        one.op("aten::rsqrt", 10, [HEADS, N, N])
        one.drawn.op("aten::einsum", dims=[[], [[HEADS, N, N], ALL]], types=["", "TensorList"], host=3000)

    silent(broadcast_product, drawing(draw))


def test_another_product_of_the_same_size_is_none_of_its_readers() -> None:
    def draw(one: Drawing) -> None:
        one.product()
        one.op("aten::mul", 3000, [HEADS, N, N, 1], K)
        one.op("aten::sum", 1000, ALL, concrete=["[2]", "False", ""])

    assert "2 products per step" in found(broadcast_product, drawing(draw)).summary


def test_a_sum_over_everything_has_no_subscripts() -> None:
    finding = found(broadcast_product, following("aten::mul", Q, K, dims=""))
    assert "torch.einsum(...)" in finding.fix


def test_what_is_not_summed_at_once_is_no_finding() -> None:
    silent(broadcast_product, following("aten::mul", Q, K, then="aten::tanh"))
    silent(broadcast_product, following("aten::mul", Q, K, read=[HEADS, N, D]))
    silent(broadcast_product, following("aten::sub", Q, K))  # signed differences


def test_masks_weights_and_norms_are_no_finding() -> None:
    """One operand is as large as the result: a matmul would read it too."""
    x = [HEADS, N, D]
    silent(broadcast_product, following("aten::mul", x, [HEADS, N, 1], read=x))
    silent(broadcast_product, following("aten::mul", x, [D], read=x))
    silent(broadcast_product, following("aten::mul", x, [], read=x))
    silent(broadcast_product, following("aten::sub", x, [HEADS, 1, D], read=x))


def test_without_another_matmul_the_peak_tells_how_fast_one_is() -> None:
    outcome = broadcast_product.judge(drawing(Drawing.product, matmul=False))
    assert isinstance(outcome, Skip)

    def body(drawn: Timeline) -> None:
        Drawing(drawn, device=False).product()

    peak = MeasuredPeak(dtype="fp32", flops=1e12, threads=2, how="a test")
    run = run_of(steps(body, device=False), measured_peaks=(peak,))
    assert price_us(broadcast_product, run).mid_ns == close(4000 - PRODUCT_FLOPS / 0.5e6)


def test_pointwise_chains_of_such_products_are_explained_by_them() -> None:
    def draw(one: Drawing) -> None:
        one.op("aten::relu", 100, Q)
        one.op("aten::sigmoid", 100, Q)
        one.product()

    assert found(unfused_elementwise, drawing(draw, device=True)).symptom_of[0] == "broadcast-product"
