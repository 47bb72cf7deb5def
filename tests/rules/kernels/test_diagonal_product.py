"""diagonal-product: a matmul right after torch.diag costs two passes over the matrix afterwards; other matmuls are left alone."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.kernels.diagonal_product import diagonal_product
from tests.rules.drawing import steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

N, FEATURES = 700, 64
SQUARE = [[N, N], [N, N]]


def graph_layer(*products: list[list[int]], device: bool = False, between: str | None = None, of: int = N) -> Timeline:
    """A diagonal matrix made in 100 us, matmuls of 1,000 us each, and 2,000 us of other work."""

    def work(drawn: Timeline, name: str, us: int, **shapes: Any) -> None:
        drawn.op(name, kernel=us if device else None, host=10 if device else us, **shapes)

    def body(drawn: Timeline) -> None:
        work(drawn, "aten::diag_embed", 100, dims=[[of], [], [], []], types=["float", "", "", ""])
        if between is not None:
            work(drawn, between, 10, dims=[[N, N], [N, N]], types=["float", "float"])
        for factors in products:
            work(drawn, "aten::mm", 1000, dims=factors, types=["float", "float"])
        work(drawn, "aten::gelu", 2000, dims=[[N, FEATURES]], types=["float"])

    return steps(body, device=device)


def both_sides(*, device: bool = False) -> Run:
    return run_of(graph_layer(SQUARE, SQUARE, device=device))


@pytest.mark.parametrize("device", [False, True])
def test_both_products_of_a_normalized_matrix_become_two_passes(device: bool) -> None:
    price = price_us(diagonal_product, both_sides(device=device))
    assert price.low_ns == close(1000 - 200)
    assert price.high_ns == close(2 * (1000 - 200) + 100)


def test_a_product_without_gradient_can_be_computed_once() -> None:
    finding = found(diagonal_product, both_sides())
    assert "2 matmuls per step" in finding.summary
    assert finding.detail is not None
    assert "register_buffer" in finding.detail
    assert finding.needless_flops == pytest.approx(2 * 2 * N**3)


def test_the_product_with_the_features_is_no_second_one() -> None:
    """D @ A @ X: only D @ A goes."""
    price = price_us(diagonal_product, run_of(graph_layer(SQUARE, [[N, N], [N, FEATURES]])))
    assert price.high_ns == close(1000 - 200 + 100)


def test_views_may_stand_between() -> None:
    price = price_us(diagonal_product, run_of(graph_layer(SQUARE, between="aten::transpose")))
    assert price.low_ns == close(1000 - 200)


def test_a_matrix_that_is_changed_first_is_no_diagonal_one() -> None:
    """A Laplacian: diag(degree) - A."""
    silent(diagonal_product, run_of(graph_layer(SQUARE, between="aten::sub")))


def test_products_of_other_sizes_and_a_diagonal_that_is_read_are_no_finding() -> None:
    silent(diagonal_product, run_of(graph_layer([[FEATURES, FEATURES], [FEATURES, FEATURES]])))
    silent(diagonal_product, run_of(graph_layer(SQUARE, of=FEATURES)))
    silent(diagonal_product, run_of(graph_layer()))
