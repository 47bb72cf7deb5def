"""unused-gradients: backward beyond the last gradient that is reset is needless; accumulation and zeros are not judged."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.kernels.unused_gradients import unused_gradients
from tests.rules.drawing import compute, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

SQUARE: dict[str, Any] = {"dims": [[64, 64], [64, 64]], "types": ["float", "float"]}


def node(drawn: Timeline, name: str, us: int, *, device: bool) -> None:
    with drawn.span(f"autograd::engine::evaluate_function: {name}", "cpu_op"):
        drawn.python(1)
        drawn.op("aten::mm", kernel=us if device else None, host=10 if device else us, **SQUARE)


def hand(drawn: Timeline, *, added: bool) -> None:
    name = "torch::autograd::AccumulateGrad"
    with drawn.span(f"autograd::engine::evaluate_function: {name}", "cpu_op"):
        drawn.python(1)
        with drawn.span(name, "cpu_op"):
            drawn.python(1)
            drawn.op("aten::add_" if added else "aten::detach", host=5)


def loop(unused: int, *, micro: int = 1, device: bool = False, zeros: bool = False) -> Run:
    """Per micro-batch a forward and two used gradients (500 us each), then `unused` ones that are only ever added to."""

    def body(drawn: Timeline) -> None:
        if zeros:
            drawn.op("aten::zero_", host=5)
        for batch in range(micro):
            drawn.op("aten::linear", kernel=500 if device else None, host=10 if device else 500, sequence=1)
            for _ in range(2):
                node(drawn, "AddmmBackward0", 500, device=device)
                hand(drawn, added=batch > 0)
            for _ in range(unused):
                node(drawn, "AddmmBackward0", 500, device=device)
                hand(drawn, added=True)
        with drawn.span("Optimizer.step#SGD.step"):
            compute(drawn, 50) if device else drawn.op("aten::add_", host=50)

    return run_of(steps(body, device=device))


def test_backward_beyond_the_last_used_gradient_vanishes() -> None:
    for device in (False, True):
        run = loop(3, device=device)
        handing = 0 if device else 3 * 8  # on a CPU the additions take device time too
        assert price_us(unused_gradients, run).low_ns == close(3 * 500 + handing)
    assert "3 gradients per step" in found(unused_gradients, run).summary


def test_what_is_removed_is_no_work_of_the_model() -> None:
    """Three of five products of a step are needless: MFU after the fix is of the other two."""
    run = loop(3)
    finding = found(unused_gradients, run)
    assert run.flops.flops() == 5 * 2 * 64**3
    assert finding.needless_flops == pytest.approx(3 * 2 * 64**3)


def test_gradients_that_are_all_reset_are_no_finding() -> None:
    silent(unused_gradients, loop(0))


def test_accumulation_over_micro_batches_is_no_finding() -> None:
    silent(unused_gradients, loop(0, micro=3))


def test_gradients_that_are_zeroed_cannot_be_told_apart() -> None:
    silent(unused_gradients, loop(3, zeros=True))


def test_gradients_that_another_optimizer_resets_are_those_of_a_missing_detach() -> None:
    """A GAN: the discriminator's loss goes on into the generator (3 of 500 us), whose own loss comes after and writes its own."""

    def body(drawn: Timeline) -> None:
        for fresh, added in (((2, 0), (0, 3)), ((0, 3), (2, 0))):
            drawn.op("aten::linear", host=500, sequence=1)
            for number, is_added in ((added[0], True), (fresh[0], False), (fresh[1], False), (added[1], True)):
                for _ in range(number):
                    node(drawn, "AddmmBackward0", 500, device=False)
                    hand(drawn, added=is_added)
            with drawn.span("Optimizer.step#Adam.step"):
                drawn.op("aten::add_", host=50)

    run = run_of(steps(body, device=False))
    finding = found(unused_gradients, run)
    assert finding.summary.startswith("3 gradients per step")
    assert ".detach()" in finding.fix
    assert finding.detail is not None
    assert "another optimizer resets" in finding.detail
    assert price_us(unused_gradients, run).low_ns == close(3 * 508)


def test_gradients_that_no_optimizer_resets_are_frozen() -> None:
    assert "requires_grad_(False)" in found(unused_gradients, loop(3)).fix
