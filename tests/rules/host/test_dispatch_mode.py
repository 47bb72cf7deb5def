"""dispatch-mode: the Python of a mode around operators goes; a mode that training needs, or that is only in a module, is none."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import PrecisionFacts
from mfu_doctor.rules.host.dispatch_mode import dispatch_mode
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

COUNTER = "torch.utils.flop_counter._FlopCounterMode"


def loop(
    device: str | None = None, *, forward: bool = True, backward: bool = True, names: tuple[str, ...] | None = None
) -> Run:
    """Per step 10 products of forward and 10 of backward, 100 us each; in a mode it takes 60 us of Python, and 20 around it."""
    drawn, kernel = Timeline(device=device), 20 if device else None

    def product(inside: bool) -> None:
        if not inside:
            drawn.op("aten::mm", kernel=kernel, host=100)
            return
        with drawn.span("aten::mm", "cpu_op"):
            drawn.python(20)
            with drawn.span("PythonDispatchMode", "cpu_op"):
                drawn.python(30)
                drawn.op("aten::mm", kernel=kernel, host=100)
                drawn.python(30)

    for _ in range(5):
        with drawn.step():
            for _ in range(10):
                product(forward)
            for _ in range(10):
                node = drawn.span("autograd::engine::evaluate_function: MmBackward0", "cpu_op")
                with node, drawn.span("MmBackward0", "cpu_op"):
                    product(backward)
    return run_of(drawn, precision=PrecisionFacts(dispatch_modes=names)) if names is not None else run_of(drawn)


def test_the_python_of_the_mode_goes() -> None:
    finding = found(dispatch_mode, loop(names=(COUNTER,)))
    assert finding.summary.startswith("FlopCounterMode takes ")
    price = price_us(dispatch_mode, loop(names=(COUNTER,)))
    assert (price.low_ns, price.high_ns) == (close(20 * 60), close(20 * 80))


def test_launching_gets_quicker_too() -> None:
    price = price_us(dispatch_mode, loop("NVIDIA A100-SXM4-80GB", names=(COUNTER,)))
    assert (price.low_ns, price.high_ns) == (close(20 * 60), close(20 * 80))


def test_a_trace_does_not_name_the_mode() -> None:
    assert found(dispatch_mode, loop()).summary.startswith("A mode in Python takes ")


def test_a_mode_around_forward_alone_may_be_selective_checkpointing() -> None:
    silent(dispatch_mode, loop(backward=False))
    assert price_us(dispatch_mode, loop(backward=False, names=(COUNTER,))).low_ns == close(10 * 60)


@pytest.mark.parametrize(
    "name", ["torch.utils.checkpoint._CachingTorchDispatchMode", "torch._subclasses.fake_tensor.FakeTensorMode"]
)
def test_a_mode_that_training_needs_is_none(name: str) -> None:
    silent(dispatch_mode, loop(names=(name,)))


def test_no_mode_is_no_finding() -> None:
    silent(dispatch_mode, loop(forward=False, backward=False))
