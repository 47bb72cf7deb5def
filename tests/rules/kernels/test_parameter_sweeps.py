"""parameter-sweeps: an average of the weights in six operators becomes one pass over its tensors."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import MeasuredPeak
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.kernels.parameter_sweeps import parameter_sweeps
from tests.rules.drawing import steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

SIDE = 1000
BANDWIDTH = 10e9
ONE_PASS_US = 3 * SIDE * SIDE * 4 / BANDWIDTH * 1e6  # 1,200: two tensors are read, one is written
WEIGHT = [SIDE, SIDE]
PEAK = MeasuredPeak(dtype="fp32", flops=1e11, threads=2, how="best float32 matmul", bandwidth_bytes_s=BANDWIDTH)


def floats(*shapes: list[int]) -> dict[str, Any]:
    return {"dims": list(shapes), "types": ["float"] * len(shapes)}


def training(name: str, shape: list[int], *, optimizer: bool = True, root: bool = False) -> Timeline:
    """A product with its gradient, a step of SGD, and then five operators of 2,000 us, with 100 us of Python after each."""

    def body(drawn: Timeline) -> None:
        drawn.op("aten::mm", host=5000, **floats([64, SIDE], WEIGHT))
        with drawn.span("autograd::engine::evaluate_function: torch::autograd::AccumulateGrad", "cpu_op"):
            drawn.op("torch::autograd::AccumulateGrad", host=5, **floats(WEIGHT))
        if optimizer:
            with drawn.span("Optimizer.step#SGD.step", "user_annotation"):
                drawn.op("aten::add_", host=700, **floats(WEIGHT, WEIGHT))
        for _ in range(5):
            drawn.op(name, host=2000, **floats(shape, shape))
            drawn.python(100)
        if root:
            drawn.op("aten::sqrt", host=2000, **floats(shape))

    return steps(body, device=False)


def drawn(*args: Any, peaks: tuple[MeasuredPeak, ...] = (PEAK,), **options: Any) -> Run:
    return run_of(training(*args, **options), measured_peaks=peaks)


def test_an_average_in_many_operators_becomes_one_pass() -> None:
    run = drawn("aten::mul", WEIGHT)
    price = price_us(parameter_sweeps, run)
    assert price.high_ns == close(5 * 2000 - ONE_PASS_US + 4 * 100)
    assert price.low_ns == close(5 * 2000 - 2 * ONE_PASS_US + 4 * 100)
    assert "foreach_lerp_" in found(parameter_sweeps, run).fix


def test_a_product_of_square_matrices_is_no_pass_over_a_parameter() -> None:
    silent(parameter_sweeps, drawn("aten::mm", WEIGHT))


def test_copies_of_the_memory_of_a_parameter_count() -> None:
    assert price_us(parameter_sweeps, drawn("aten::copy_", [SIDE * SIDE * 4])).high_ns == close(
        5 * 2000 - ONE_PASS_US + 4 * 100
    )


@pytest.mark.parametrize(("root", "name"), [(False, "SGD"), (True, "AdamW")])
def test_without_an_optimizer_of_torch_it_is_an_update_by_hand(root: bool, name: str) -> None:
    run = drawn("aten::mul", WEIGHT, optimizer=False, root=root)
    assert f"torch.optim.{name}(" in found(parameter_sweeps, run).fix


def test_tensors_of_other_shapes_and_the_optimizer_alone_are_no_finding() -> None:
    silent(parameter_sweeps, drawn("aten::mul", [64, SIDE]))
    silent(parameter_sweeps, drawn("aten::detach", WEIGHT))


def test_without_a_bandwidth_it_is_not_judged() -> None:
    assert isinstance(parameter_sweeps.judge(drawn("aten::mul", WEIGHT, peaks=())), Skip)


def test_an_update_that_backward_goes_through_is_none_by_hand() -> None:
    """MAML in torch.func: vmap runs the operator of autograd inside of another with the same number."""

    def body(drawn: Timeline, number: int) -> None:
        with drawn.span("aten::mul", "cpu_op", sequence=number, **floats(WEIGHT, WEIGHT)):
            drawn.python(1)
            drawn.op("aten::mul", host=2000, sequence=number, **floats([64, *WEIGHT], WEIGHT))
        with drawn.span("autograd::engine::evaluate_function: MulBackward0", "cpu_op", sequence=number):
            drawn.op("aten::mul", host=2000, **floats([64, *WEIGHT], WEIGHT))
        with drawn.span("autograd::engine::evaluate_function: torch::autograd::AccumulateGrad", "cpu_op"):
            drawn.op("torch::autograd::AccumulateGrad", host=5, **floats(WEIGHT))
        with drawn.span("Optimizer.step#SGD.step", "user_annotation"):
            drawn.op("aten::add_", host=700, **floats(WEIGHT, WEIGHT))

    drawn = Timeline(device=None)
    for number in range(6):
        with drawn.step():
            body(drawn, number)
    silent(parameter_sweeps, run_of(drawn, measured_peaks=(PEAK,)))
