"""discarded-pass: a pass whose gradients are reset at once goes; what anybody can have read, or another optimizer owns, stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.kernels.discarded_pass import discarded_pass
from tests.rules.drawing import steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

SQUARE: dict[str, Any] = {"dims": [[256, 256], [256, 256]], "types": ["float", "float"]}
ENGINE = "autograd::engine::evaluate_function: "
FORWARD, BACKWARD = 500, 1000


class Program:
    """Operators of one step, on a GPU or a CPU."""

    def __init__(self, drawn: Timeline, *, device: bool) -> None:
        self.drawn, self.is_device = drawn, device

    def work(self, name: str, us: int, sequence: int | None = None) -> None:
        kernel = us if self.is_device else None
        self.drawn.op(name, kernel=kernel, host=10 if self.is_device else us, sequence=sequence, **SQUARE)

    def forward(self) -> int:
        number = self.drawn.now
        self.work("aten::mm", FORWARD, number)
        return number

    def backward(self, number: int, *, adds: bool = False, hook: str | None = None) -> None:
        self.drawn.op("aten::ones_like", host=2, dims=[[]], types=["float"])
        with self.drawn.span(f"{ENGINE}MmBackward0", "cpu_op", sequence=number):
            self.work("aten::mm", BACKWARD)
        with self.drawn.span(f"{ENGINE}torch::autograd::AccumulateGrad", "cpu_op"):
            with self.drawn.span("torch::autograd::AccumulateGrad", "cpu_op"):
                self.drawn.op("aten::add_" if adds else "aten::detach", host=1)
            if hook is not None:
                self.drawn.op(hook, host=1)

    def closure(self) -> None:
        self.zero_grad()
        self.backward(self.forward())

    def zero_grad(self, name: str = "Adam") -> None:
        with self.drawn.span(f"Optimizer.zero_grad#{name}.zero_grad"):
            self.drawn.python(2)

    @contextmanager
    def step(self, name: str = "Adam") -> Iterator[None]:
        """The optimizer's step, with what its closure does inside."""
        with self.drawn.span(f"Optimizer.step#{name}.step"):
            yield
            self.work("aten::_foreach_add_", 20)


def training(body: Callable[[Program], None], *, device: bool = False) -> Run:
    return run_of(steps(lambda drawn: body(Program(drawn, device=device)), device=device))


def called_twice(one: Program) -> None:
    one.closure()
    with one.step():
        one.closure()


@pytest.mark.parametrize("device", [False, True])
def test_the_call_of_a_closure_before_step_goes_with_its_forward(device: bool) -> None:
    run = training(called_twice, device=device)
    assert price_us(discarded_pass, run).low_ns == close(FORWARD + BACKWARD)
    assert "optimizer.step(closure)" in found(discarded_pass, run).fix


def test_a_reset_between_two_losses_throws_the_first_away() -> None:
    def body(one: Program) -> None:
        for _ in range(2):
            one.zero_grad()
            one.backward(one.forward())
        with one.step():
            pass

    run = training(body)
    assert price_us(discarded_pass, run).low_ns == close(FORWARD + BACKWARD)
    said = found(discarded_pass, run)
    assert said.fix.startswith("# delete this forward and backward pass, or the zero_grad() after it")
    assert (said.detail or "").startswith("without the pass the results stay the same")


def test_the_line_that_calls_the_closure_again_is_named_and_not_its_def() -> None:
    def body(one: Program) -> None:
        with one.drawn.span("train.py(107): fit", "python_function"):
            with one.drawn.span("train.py(96): closure", "python_function"):
                one.closure()
            with one.step():
                one.drawn.python(2)
                with one.drawn.span("train.py(96): closure", "python_function"):
                    one.closure()

    assert found(discarded_pass, training(body)).place == "train.py:107"


def test_the_reset_that_throws_gradients_away_is_named() -> None:
    def body(one: Program) -> None:
        with one.drawn.span("train.py(30): first", "python_function"):
            one.backward(one.forward())
        with one.drawn.span("train.py(40): second", "python_function"):
            one.zero_grad()
            one.backward(one.forward())
        with one.step():
            pass

    assert found(discarded_pass, training(body)).place == "train.py:40"


def test_one_call_of_the_closure_is_fine() -> None:
    def body(one: Program) -> None:
        with one.step():
            one.closure()

    silent(discarded_pass, training(body))


def between(*what: str, after: bool = False, resets: bool = True) -> Run:
    """Two passes per step, with operators between them or after the second."""

    def body(one: Program) -> None:
        one.zero_grad()
        one.backward(one.forward())
        for name in () if after else what:
            one.work(name, 5)
        if resets:
            one.zero_grad()
        one.backward(one.forward())
        for name in what if after else ():
            one.work(name, 5)
        with one.step():
            pass

    return training(body)


def test_gradients_that_somebody_reads_are_not_lost() -> None:
    silent(discarded_pass, between("aten::clone"))  # gradients of several losses that are combined
    silent(discarded_pass, between("aten::_foreach_norm", "aten::add_"))  # the first step of SAM
    silent(discarded_pass, between("aten::_amp_foreach_non_finite_check_and_unscale_"))  # a step that AMP skips
    silent(discarded_pass, between("aten::_foreach_add_", after=True))  # references that were kept


def test_a_single_number_that_is_read_is_no_gradient() -> None:
    def body(one: Program) -> None:
        one.closure()
        one.drawn.op("aten::item", host=2, dims=[[]], types=["float"])
        with one.step():
            one.closure()

    assert price_us(discarded_pass, training(body)).low_ns == close(FORWARD + BACKWARD)


def test_without_a_reset_between_them_they_may_be_used() -> None:
    silent(discarded_pass, between(resets=False))


def test_accumulation_is_no_finding() -> None:
    def body(one: Program) -> None:
        one.zero_grad()
        for adds in (False, True):
            one.backward(one.forward(), adds=adds)
        with one.step():
            pass

    silent(discarded_pass, training(body))


def test_a_hook_may_have_taken_them() -> None:
    def body(one: Program) -> None:
        for _ in range(2):
            one.zero_grad()
            one.backward(one.forward(), hook="aten::add_")
        with one.step():
            pass

    silent(discarded_pass, training(body))


@pytest.mark.parametrize("second", ["Adam", "SGD"])
def test_two_optimizers_reset_their_own(second: str) -> None:
    """Twins of one shape: each is reset, then both go back, then both step."""

    def body(one: Program) -> None:
        for name in ("Adam", second):
            one.zero_grad(name)
            one.backward(one.forward())
        for name in ("Adam", second):
            with one.step(name):
                pass

    silent(discarded_pass, training(body))


def test_networks_that_take_turns_are_no_finding() -> None:
    def body(one: Program) -> None:
        for _ in range(2):
            one.closure()
            with one.step():
                pass

    silent(discarded_pass, training(body))


def test_a_step_that_is_skipped_now_and_then_is_no_finding() -> None:
    def body(one: Program) -> None:
        if one.drawn.steps % 3 == 0:
            one.closure()
        one.closure()
        with one.step():
            pass

    silent(discarded_pass, training(body))
