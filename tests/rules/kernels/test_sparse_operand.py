"""sparse-operand: products with a constant matrix of zeros shrink to their non-zeros, but rows must still be moved."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import MeasuredPeak
from mfu_doctor.facts.wasted_work import SparseOperand
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.kernels.diagonal_product import diagonal_product
from mfu_doctor.rules.kernels.sparse_operand import sparse_operand
from tests.rules.drawing import steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

N, WIDTH = 2400, 192
PRODUCT: dict[str, Any] = {"dims": [[N, N], [N, WIDTH]], "types": ["float", "float"]}
LAYER: dict[str, Any] = {"dims": [[N, WIDTH], [WIDTH, WIDTH]], "types": ["float", "float"]}
# Each step has two nodes: the product's, and a layer's.
OF_THE_PRODUCT = tuple(range(0, 40, 2))
GRAPH = SparseOperand(dims=(N, N), nonzero=0.001, sequence=OF_THE_PRODUCT)
BANDWIDTH = 10e9


def node(drawn: Timeline, name: str, us: int, sequence: int, *, device: bool, **shapes: Any) -> None:
    with drawn.span(f"autograd::engine::evaluate_function: {name}", "cpu_op", sequence=sequence):
        drawn.python(1)
        drawn.op("aten::mm", kernel=us if device else None, host=10 if device else us, **shapes)
        drawn.op("aten::sum", kernel=50 if device else None, host=10 if device else 50)


def network(*, device: bool = False, us: int = 20_000) -> Timeline:
    """A product of 20,000 us with a constant matrix, forward and backward, and a layer of 5,000 us, and 10,000 us in backward."""
    numbers = count()

    def body(drawn: Timeline) -> None:
        product, layer = next(numbers), next(numbers)
        for number, each, shapes in ((product, us, PRODUCT), (layer, 5_000, LAYER)):
            times: dict[str, Any] = {"kernel": each, "host": 10} if device else {"host": each}
            drawn.op("aten::mm", sequence=number, **shapes, **times)
        node(drawn, "MmBackward0", 10_000, layer, device=device, **LAYER)
        node(drawn, "MmBackward0", us, product, device=device, **PRODUCT)

    return steps(body, device=device)


def told(*operands: SparseOperand, **drawn: Any) -> Run:
    peak = MeasuredPeak(dtype="fp32", flops=200e9, threads=2, bandwidth_bytes_s=BANDWIDTH, how="test")
    return run_of(network(**drawn), sparse_operands=operands, measured_peaks=(peak,))


def moved_us(passes: float, nonzero: float = 0.001) -> float:
    """Both products move the rows that belong to the non-zeros."""
    return 2 * passes * nonzero * N * N * WIDTH * 4 / BANDWIDTH * 1e6


def test_products_shrink_to_what_must_be_moved() -> None:
    price = price_us(sparse_operand, told(GRAPH))
    assert price.high_ns == close(40_000 - moved_us(1))
    assert price.mid_ns == close(40_000 - moved_us(5))
    assert price.low_ns == close(40_000 - moved_us(10))
    finding = found(sparse_operand, told(GRAPH))
    assert "of which 0.10 % is not zero" in finding.summary
    assert "5,760 are not zero" in (finding.detail or "")


def test_without_a_known_bandwidth_a_sparse_kernel_is_slower_for_each_non_zero() -> None:
    price = price_us(sparse_operand, run_of(network(), sparse_operands=(GRAPH,)))
    assert price.low_ns == close(40_000 * (1 - 0.04))
    assert price.high_ns == close(40_000 * (1 - 0.001))


def test_products_on_a_device_are_its_kernels_and_not_what_is_beside_them() -> None:
    assert price_us(sparse_operand, told(GRAPH, device=True)).high_ns == close(40_000 * (1 - 0.001))


def test_only_the_flops_of_the_zeros_are_needless() -> None:
    assert found(sparse_operand, told(GRAPH)).needless_flops == pytest.approx(0.999 * 2 * 2 * N * N * WIDTH)


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        ({}, "index_add_"),
        ({"one_each": True, "with_parameter": True}, "F.embedding(index"),
        ({"one_each": True}, "h[index]"),
        ({"one_each": True}, "values[:, None] * h if it is a diagonal"),
        ({}, "or bmm of padded blocks"),
        ({"dims": (N, N, N)}, "of all blocks together"),
        ({"with_parameter": True}, "F.embedding_bag"),
        ({"dims": (N, 4 * N)}, "matrix.to_sparse_csr()"),
    ],
)
def test_the_fix_is_that_of_what_was_seen(seen: dict[str, Any], line: str) -> None:
    assert line in found(sparse_operand, told(replace(GRAPH, **seen))).fix


@pytest.mark.parametrize("nonzero", [0.03, 0.1, 0.5, 1.0])
def test_masks_activations_and_short_one_hot_rows_are_no_such_matrix(nonzero: float) -> None:
    silent(sparse_operand, told(SparseOperand(dims=(N, N), nonzero=nonzero, sequence=OF_THE_PRODUCT)))


def test_nothing_but_zeros_is_a_stand_in_for_data() -> None:
    silent(sparse_operand, told(SparseOperand(dims=(N, N), nonzero=0.0, sequence=OF_THE_PRODUCT)))


def test_a_small_product_and_no_such_matrix_are_no_finding() -> None:
    silent(sparse_operand, told(GRAPH, us=50))
    silent(sparse_operand, told())


def test_a_diagonal_matrix_is_the_other_rule() -> None:
    assert found(sparse_operand, told(GRAPH)).symptom_of == (diagonal_product.name,)


def test_a_run_in_which_nothing_was_counted_is_not_judged() -> None:
    assert isinstance(sparse_operand.judge(run_of(network(), site="train.py:1")), Skip)
