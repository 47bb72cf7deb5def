"""dense-embedding-grad: a sparse update takes the place of dense work, and a tied table is promised nothing."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from mfu_doctor.analysis.evidence.embeddings import dense_tables
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.kernels.dense_embedding_grad import dense_embedding_grad
from tests.rules.drawing import POINTWISE, compute, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

ROWS, WIDTH = 100_000, 128


def loop(
    batch: int = 1_000,
    *,
    optimizer: str = "SGD",
    device: bool = True,
    shapes: bool = True,
    tied: bool = False,
    again: int = 0,
    growing: int = 0,
) -> Run:
    """Per step: 2 ms of products, a gradient of 900 us of zeros and 100 ns for each row of the batch, and 600 us of updates."""

    def told(**args: Any) -> dict[str, Any]:
        return args if shapes else {}

    def op(drawn: Timeline, name: str, us: int, **args: Any) -> None:
        drawn.op(name, kernel=us if device else None, host=10 if device else us, kernel_name=POINTWISE, **args)

    number = itertools.count()

    def body(drawn: Timeline) -> None:
        head = {"dims": [[batch, WIDTH], [WIDTH, ROWS]]} if tied else {}
        op(drawn, "aten::mm", 2_000, **head)
        now = batch + growing * next(number)
        for indices in [now, again] if again else [now]:
            dims, concrete = [[indices, WIDTH], [indices], [], [], []], ["", "", str(ROWS), "-1", "False"]
            with drawn.span("aten::embedding_dense_backward", "cpu_op", **told(dims=dims, concrete=concrete)):
                op(drawn, "aten::fill_", 900, **told(dims=[[ROWS, WIDTH], []]))
                op(drawn, "aten::sums", indices // 10)
        if again:
            with drawn.span("autograd::engine::evaluate_function: EmbeddingBackward0", "cpu_op"):
                op(drawn, "aten::add_", 500, **told(dims=[[ROWS, WIDTH], [ROWS, WIDTH], []]))
        with drawn.span(f"Optimizer.step#{optimizer}.step"):
            op(drawn, "aten::add_", 600, **told(dims=[[ROWS, WIDTH], [ROWS, WIDTH], []]))
            op(drawn, "aten::add_", 50, **told(dims=[[WIDTH, 64], [WIDTH, 64], []]))

    return run_of(steps(body, device=device))


def test_what_adding_up_rows_takes_here_says_what_a_sparse_update_takes() -> None:
    for device in (True, False):
        price = price_us(dense_embedding_grad, loop(device=device))
        assert price.low_ns == close(900 + 100 + 600 - 0.6 * 100)
        assert price.mid_ns == close(900 + 100 + 600 - 0.4 * 100)
        assert price.high_ns == close(900 + 100 + 600 - 0.25 * 100)


def test_an_update_of_several_passes_takes_a_multiple_of_it() -> None:
    price = price_us(dense_embedding_grad, loop(batch=2_000, optimizer="Adagrad"))
    assert price.mid_ns == close(900 + 200 + 600 - 3.5 * 200)
    assert price_us(dense_embedding_grad, loop(batch=5_000, optimizer="Adagrad")).mid_ns == close(
        900 + 500 + 600 - 3.5 * 500
    )


def test_a_batch_that_touches_most_rows_saves_nothing() -> None:
    """Sparse gradients of most rows were measured to cost more than the zeros that they leave out."""
    silent(dense_embedding_grad, loop(batch=90_000, optimizer="Adam"))
    silent(dense_embedding_grad, loop(batch=400_000))


def test_a_table_that_is_used_twice_is_touched_by_both_lookups() -> None:
    """A basket of 40,000 items and one positive item per sample: most rows have a gradient, however few the second lookup is."""
    tables = dense_tables(both := loop(batch=40_000, again=500, optimizer="Adam"), steady_of(both))
    assert tables is not None
    assert tables.tables == ((ROWS, WIDTH, 40_500),)
    assert tables.touched == pytest.approx(0.405)
    silent(dense_embedding_grad, both)


def test_batches_of_several_steps_are_not_those_of_one() -> None:
    tables = dense_tables(drawn := loop(batch=5_000, growing=10), steady_of(drawn))
    assert tables is not None
    assert tables.touched == pytest.approx(0.05, rel=0.02)


def test_gradients_of_two_lookups_are_added_whole() -> None:
    run = loop(batch=1_000, again=1_000)
    assert price_us(dense_embedding_grad, run).mid_ns == close(2 * (900 + 100) + 500 + 600 - 0.4 * 200)


def test_a_table_that_may_be_tied_to_the_output_layer_is_promised_nothing() -> None:
    run = loop(tied=True)
    assert price_us(dense_embedding_grad, run).low_ns == 0
    assert "shares the table's weight" in (found(dense_embedding_grad, run).detail or "")


def test_without_shapes_only_the_zeros_are_priced() -> None:
    assert price_us(dense_embedding_grad, loop(shapes=False)).high_ns == close(900)


def small_tables(count: int, *, optimizer: str, equal: bool = False) -> Run:
    """So many tables of which a batch uses one row in a hundred, each updated in 150 us; of one size, or of different ones."""
    sizes = [10_000 + (0 if equal else table) for table in range(count)]

    def body(drawn: Timeline) -> None:
        drawn.op("aten::mm", host=1_000)
        for rows in sizes:
            dims, concrete = [[100, WIDTH], [100], [], [], []], ["", "", str(rows), "-1", "False"]
            with drawn.span("aten::embedding_dense_backward", "cpu_op", dims=dims, concrete=concrete):
                drawn.op("aten::sums", host=10)
        with drawn.span(f"Optimizer.step#{optimizer}.step"):
            for rows in sizes:
                drawn.op("aten::add_", host=150, dims=[[rows, WIDTH], [rows, WIDTH], []])

    return run_of(steps(body, device=False))


def test_an_update_has_a_fixed_cost_for_each_table() -> None:
    """Of the gradient's 10 and the update's 150 us, 120 stay for each table; with SGD 15."""
    assert price_us(dense_embedding_grad, small_tables(4, optimizer="Adam")).high_ns == close(4 * (160 - 120))
    assert price_us(dense_embedding_grad, small_tables(4, optimizer="SGD")).high_ns == close(4 * (160 - 15))
    tables_of_one_size = small_tables(26, optimizer="Adam", equal=True)
    assert price_us(dense_embedding_grad, tables_of_one_size).high_ns == close(26 * (160 - 120))


@pytest.mark.parametrize(
    ("node", "lookups", "counts"),
    [
        ("EmbeddingBackward0", 2, True),
        ("torch::autograd::AccumulateGrad", 2, True),
        ("torch::autograd::AccumulateGrad", 1, False),  # a weight of something else
        ("AddBackward0", 2, False),  # activations of that shape
    ],
)
def test_additions_count_only_where_gradients_of_a_table_meet(node: str, lookups: int, counts: bool) -> None:
    def body(drawn: Timeline) -> None:
        drawn.op("aten::mm", host=1_000)
        for _ in range(lookups):
            dims, concrete = [[100, WIDTH], [100], [], [], []], ["", "", str(ROWS), "-1", "False"]
            with drawn.span("aten::embedding_dense_backward", "cpu_op", dims=dims, concrete=concrete):
                drawn.op("aten::fill_", host=500)
        with drawn.span(f"autograd::engine::evaluate_function: {node}", "cpu_op"):
            drawn.op("aten::add_", host=700, dims=[[ROWS, WIDTH], [ROWS, WIDTH], []])

    run = run_of(steps(body, device=False))
    assert price_us(dense_embedding_grad, run).high_ns == close(lookups * 500 + 700 * counts)


def test_sgd_takes_sparse_gradients_as_it_is() -> None:
    assert found(dense_embedding_grad, loop()).fix == "nn.Embedding(..., sparse=True)"


def test_no_embedding_is_no_finding() -> None:
    silent(dense_embedding_grad, run_of(steps(lambda drawn: compute(drawn, 1_000))))


def test_what_an_optimizer_does_with_dense_zeros_decides_whether_sparse_ones_change_training() -> None:
    """Adam moves rows without a gradient by their momentum, SparseAdam does not; for SGD they stay as they are either way."""
    assert found(dense_embedding_grad, small_tables(4, optimizer="Adam")).is_choice
    assert not found(dense_embedding_grad, small_tables(4, optimizer="SGD")).is_choice
