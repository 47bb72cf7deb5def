"""tensor-loop: a loop over elements is priced with its backward; layers, recurrences and short loops are none."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.host.tensor_loop import tensor_loop
from tests.rules.drawing import POINTWISE
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

ROUNDS = 100


def loop(names: tuple[str, ...], rounds: int = ROUNDS, *, device: bool = True, backward: bool = False) -> Run:
    """Per step a product, `rounds` rounds of these operators (20 us each), and 30 us of backward for each round if asked."""
    drawn = Timeline() if device else Timeline(device=None)
    number = 0
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=500 if device else None, host=100)
            first = number
            for _ in range(rounds):
                for name in names:
                    drawn.op(name, host=20, sequence=number)
                number += 1
            drawn.op("aten::mm", kernel=5 if device else None, host=100, sequence=number)
            if backward:
                node(drawn, "MmBackward0", number)
                for i in range(number - 1, first - 1, -1):
                    node(drawn, "SelectBackward0", i)
            number += 1
    return run_of(drawn)


def node(drawn: Timeline, name: str, sequence: int) -> None:
    with drawn.span(f"autograd::engine::evaluate_function: {name}", "cpu_op", sequence=sequence):
        drawn.python(1)
        with drawn.span(name, "cpu_op", sequence=sequence):
            drawn.python(1)
            drawn.op("aten::fill_", host=28)


def test_a_loop_shrinks_to_one_round_at_best() -> None:
    run = run_of_device_loop()
    price = price_us(tensor_loop, run)
    assert price.low_ns == close(0.75 * ROUNDS * 50)
    assert price.mid_ns == close(0.95 * ROUNDS * 50)
    finding = found(tensor_loop, run)
    assert "select, add_ 100 times" in finding.summary


def run_of_device_loop() -> Run:
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=50, host=100)
            for _ in range(ROUNDS):
                drawn.op("aten::select", host=20)
                drawn.op("aten::add_", kernel=5, host=30, kernel_name=POINTWISE)
            drawn.op("aten::mm", kernel=50, host=100)
    return run_of(drawn)


def test_on_a_cpu_the_operators_are_the_work() -> None:
    price = price_us(tensor_loop, loop(("aten::select", "aten::mul"), device=False))
    assert price.low_ns == close(0.5 * ROUNDS * 40)
    assert price.mid_ns == close(0.9 * ROUNDS * 40)
    assert price.high_ns == close(0.99 * ROUNDS * 40)


def test_joining_the_results_is_part_of_the_loop() -> None:
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            for _ in range(ROUNDS):
                drawn.op("aten::select", host=20)
                drawn.op("aten::mul", host=20)
            drawn.op("aten::stack", host=1_000)
            drawn.op("aten::mm", host=1_000)
    assert price_us(tensor_loop, run_of(drawn)).low_ns == close(0.5 * (ROUNDS * 40 + 1_000))


@pytest.mark.parametrize(("after_us", "freed_us"), [(300, 300), (5_000, ROUNDS * 10)])
def test_freeing_the_results_is_part_of_the_loop_no_longer_than_its_own_python(after_us: int, freed_us: int) -> None:
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            for _ in range(ROUNDS):
                drawn.op("aten::select", host=20)
                drawn.python(10)
            drawn.op("aten::stack", host=1_000)
            drawn.python(after_us)
            drawn.op("aten::mm", host=1_000)
    price = price_us(tensor_loop, run_of(drawn))
    assert price.high_ns == close(0.99 * (ROUNDS * 30 + 1_000 + freed_us))


def test_the_nodes_of_the_loop_in_backward_belong_to_it_and_others_do_not() -> None:
    price = price_us(tensor_loop, loop(("aten::select", "aten::mul"), device=False, backward=True))
    assert price.mid_ns == close(0.9 * ROUNDS * (40 + 30))


@pytest.mark.parametrize("names", [("aten::linear", "aten::relu"), ("aten::select", "aten::linear", "aten::tanh")])
def test_layers_and_recurrences_are_no_loop_over_elements(names: tuple[str, ...]) -> None:
    silent(tensor_loop, loop(names))


def test_a_short_loop_is_no_finding() -> None:
    silent(tensor_loop, loop(("aten::select", "aten::mul"), rounds=5))
