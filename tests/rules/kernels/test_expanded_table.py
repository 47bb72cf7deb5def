"""expanded-table: a lookup of many more indices than rows and its product are the product with the table itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import GraphDepths, MeasuredPeak
from mfu_doctor.rules.kernels.expanded_table import expanded_table
from mfu_doctor.rules.kernels.unfused_attention import unfused_attention
from tests.rules.drawing import steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

BATCH, HEADS, T, D = 2, 4, 512, 32
QUERIES, SCORES, EXPANDED = [BATCH, HEADS, T, D], [BATCH, HEADS, T, T], [T, T, D]
ENGINE = "autograd::engine::evaluate_function: "
MATMUL = 1024  # 2 * 1024^3 FLOP in 20,000 us
MATMUL_RATE = 2 * MATMUL**3 / 20_000  # FLOP per us
BANDWIDTH = 1e10


class Drawing:
    """Operators on a CPU."""

    def __init__(self, drawn: Timeline) -> None:
        self.drawn = drawn

    def op(self, name: str, us: int, *shapes: Sequence[int], **args: Any) -> None:
        self.drawn.op(name, dims=[list(shape) for shape in shapes], types=["float"] * len(shapes), host=us, **args)

    def lookup(self, rows: int = T, indices: Sequence[int] = (T, T), sequence: int | None = None) -> None:
        self.op("aten::embedding", 3_000, (rows, D), indices, sequence=sequence)

    def einsum(self, left: Sequence[int] = (T, BATCH * HEADS, D), right: Sequence[int] = (T, D, T)) -> None:
        """Scores of each query with the row of each pair: bhid,ijd->bhij, or what the shapes of the matmul inside say."""
        with self.drawn.span(
            "aten::einsum", "cpu_op", dims=[[], [QUERIES, EXPANDED], []], types=["", "TensorList", ""]
        ):
            self.drawn.python(1)
            self.op("aten::bmm", 5_000, left, right, sequence=2)

    def backward(self) -> None:
        """32,000 us, of the product and of the lookup."""
        for name, us, number in (("BmmBackward0", 7_000, 2), ("EmbeddingBackward0", 25_000, 1)):
            with self.drawn.span(f"{ENGINE}{name}", "cpu_op", sequence=number):
                self.drawn.python(1)
                self.op("aten::mul", us, EXPANDED)


def drawing(draw: Any) -> Run:
    """A run of equal steps."""

    def body(drawn: Timeline) -> None:
        one = Drawing(drawn)
        one.op("aten::mm", 20_000, (MATMUL, MATMUL), (MATMUL, MATMUL), sequence=0)
        draw(one)

    peak = MeasuredPeak(dtype="fp32", flops=200e9, threads=2, bandwidth_bytes_s=BANDWIDTH, how="a test")
    return run_of(steps(body, device=False), measured_peaks=(peak,))


def looked_up(**lookup: Any) -> Run:
    def draw(one: Drawing) -> None:
        one.lookup(**lookup)
        one.einsum()

    return drawing(draw)


def moved_us(times: float) -> float:
    """Queries, table, the scores for all rows twice, and the result."""
    narrow, scores = BATCH * HEADS * T * D, BATCH * HEADS * T * T
    return times * 4 * (narrow + T * D + 2 * scores + scores) / BANDWIDTH * 1e6


def test_lookup_and_product_become_a_product_with_the_table() -> None:
    price = price_us(expanded_table, looked_up())
    for saved, times in ((price.low_ns, 4), (price.mid_ns, 2), (price.high_ns, 1)):
        assert saved == close(max(8_000 - moved_us(times), 0))
    finding = found(expanded_table, looked_up())
    assert "512 times each" in finding.summary
    assert "torch.gather(q @ table.t()" in finding.fix
    assert "262,144 indices into 512 rows of width 32" in (finding.detail or "")


def test_their_backward_goes_too() -> None:
    def draw(one: Drawing) -> None:
        one.lookup(sequence=1)
        one.einsum()
        one.backward()

    def alone(one: Drawing) -> None:
        one.lookup(sequence=1)
        one.einsum()

    whole, forward = (price_us(expanded_table, run_of_one(each)).high_ns for each in (draw, alone))
    assert whole - forward == close(32_000 - moved_us(2))


def run_of_one(draw: Any, **facts: Any) -> Run:
    """One step: numbers of autograd are not used again."""
    drawn = Timeline(device=None)
    with drawn.step():
        one = Drawing(drawn)
        one.op("aten::mm", 20_000, (MATMUL, MATMUL), (MATMUL, MATMUL), sequence=0)
        draw(one)
    peak = MeasuredPeak(dtype="fp32", flops=200e9, threads=2, bandwidth_bytes_s=BANDWIDTH, how="a test")
    return run_of(drawn, measured_peaks=(peak,), **facts)


def test_weights_of_an_attention_are_added_up_for_each_row() -> None:
    """bhij,ijd->bhid sums over the indices."""

    def draw(one: Drawing) -> None:
        one.lookup()
        one.einsum(left=(T, BATCH * HEADS, T), right=(T, T, D))

    assert "scatter_add_" in found(expanded_table, drawing(draw)).fix


@pytest.mark.parametrize("name", ["aten::index", "aten::index_select"])
def test_any_lookup_counts(name: str) -> None:
    def draw(one: Drawing) -> None:
        if name == "aten::index":
            one.drawn.op(name, dims=[[T, D], [[T, T]]], types=["float", "TensorList"], host=3_000)
        else:
            told: dict[str, Any] = {"dims": [[T, D], [], [T * T]], "types": ["float", "", "long int"]}
            one.drawn.op(name, concrete=["", "0", ""], host=3_000, **told)
        one.op("aten::unsqueeze", 1, EXPANDED)
        one.op("aten::mul", 10, QUERIES)
        one.einsum()

    found(expanded_table, drawing(draw))


def test_tokens_and_few_indices_are_no_such_lookup() -> None:
    silent(expanded_table, looked_up(rows=T * T // 2))
    silent(expanded_table, looked_up(indices=(T, 2)))


def test_a_table_that_would_take_more_than_the_lookup_is_left_alone() -> None:
    """Each query meets few rows: the product with all of them is more work."""
    silent(expanded_table, looked_up(rows=4 * T))


def test_rows_that_something_else_reads_first_are_left_alone() -> None:
    """A bias that is added to the scores, tokens that are normalised or dropped out."""

    def draw(one: Drawing) -> None:
        one.lookup()
        one.op("aten::add", 10, EXPANDED, EXPANDED)
        one.einsum()

    silent(expanded_table, drawing(draw))
    silent(expanded_table, drawing(Drawing.lookup))


def test_rows_that_something_else_may_read_later_are_left_alone() -> None:
    """As many heads as positions: the product of queries and keys has the size of the rows, which it does not read."""

    def draw(one: Drawing) -> None:
        one.lookup()
        one.op("aten::bmm", 5_000, (T, T, D), (T, D, T))
        one.op("aten::tanh", 10, EXPANDED)
        one.op("aten::mv", 10, (T * T, D), (D,))

    silent(expanded_table, drawing(draw))


@pytest.mark.parametrize("backward", [False, True])
def test_a_bias_that_is_a_product_with_the_queries_is_not_promised_to_a_fused_kernel(backward: bool) -> None:
    heads = BATCH * HEADS
    flat, keys = (heads, T, D), (heads, D, T)

    def attention(one: Drawing, *, biased: bool) -> None:
        one.op("aten::bmm", 3_000, flat, keys)
        if biased:
            one.einsum()
        one.op("aten::add", 1_000, SCORES, SCORES if biased else (T, T))
        one.op("aten::_softmax", 1_000, SCORES, sequence=7)
        one.op("aten::bmm", 3_000, (heads, T, T), flat)
        if backward:
            one.op("aten::bmm", 3_000, (heads, T, T), flat)
            one.op("aten::bmm", 3_000, flat, keys)
            with one.drawn.span(f"{ENGINE}SoftmaxBackward0", "cpu_op", sequence=7):
                one.drawn.python(1)
                one.op("aten::_softmax_backward_data", 1_000, SCORES, SCORES)
            one.op("aten::bmm", 3_000, (T, D, heads), (T, heads, T))
            one.op("aten::bmm", 3_000, (T, heads, T), EXPANDED)

    found(unfused_attention, run_of_one(lambda one: attention(one, biased=False)))
    silent(unfused_attention, run_of_one(lambda one: attention(one, biased=True)))


@pytest.mark.parametrize("learned", [False, True])
def test_no_fused_kernel_of_a_cpu_takes_a_bias_that_is_learned(learned: bool) -> None:
    """Backward sums the gradient of the scores over samples and heads: the bias needs one."""
    heads = BATCH * HEADS

    def attention(one: Drawing) -> None:
        one.op("aten::bmm", 3_000, (heads, T, D), (heads, D, T))
        one.op("aten::add", 1_000, (heads, T, T), (T, T), sequence=6)
        one.op("aten::_softmax", 1_000, (heads, T, T), sequence=7)
        one.op("aten::bmm", 3_000, (heads, T, T), (heads, T, D))
        with one.drawn.span(f"{ENGINE}AddBackward0", "cpu_op", sequence=6):
            one.drawn.python(1)
            if learned:
                one.op("aten::sum", 1_000, (heads, T, T))

    judge = silent if learned else found
    judge(unfused_attention, run_of_one(attention))


@pytest.mark.parametrize("inputs", [1, 2])
def test_the_graph_tells_that_a_mask_of_the_full_size_is_learned(inputs: int) -> None:
    """A mask that is padding and a bias at once has the size of the scores: backward sums nothing."""
    heads = BATCH * HEADS

    def attention(one: Drawing) -> None:
        one.op("aten::bmm", 3_000, (heads, T, D), (heads, D, T))
        one.op("aten::add", 1_000, (heads, T, T), (heads, T, T), sequence=6)
        one.op("aten::_softmax", 1_000, (heads, T, T), sequence=7)
        one.op("aten::bmm", 3_000, (heads, T, T), (heads, T, D))
        with one.drawn.span(f"{ENGINE}AddBackward0", "cpu_op", sequence=6):
            one.drawn.python(1)

    graph = GraphDepths(sequence=(6,), depth=(3,), inputs=(inputs,))
    judge = silent if inputs > 1 else found
    judge(unfused_attention, run_of_one(attention, graph_depths=graph))
