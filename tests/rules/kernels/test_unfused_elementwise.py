"""unfused-elementwise: a chain becomes its longest member, whatever stopped it while it was recorded."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import FrameSample, MeasuredPeak
from mfu_doctor.rules.kernels.unfused_elementwise import unfused_elementwise
from tests.rules.drawing import POINTWISE, compute, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def pointwise(length: int) -> Timeline:
    def body(drawn: Timeline) -> None:
        compute(drawn, 2_000)
        for _ in range(length):
            drawn.op("aten::add", kernel=300, kernel_name=POINTWISE)

    return steps(body)


def test_a_chain_of_pointwise_operations_is_priced_down_to_its_longest() -> None:
    price = price_us(unfused_elementwise, run_of(pointwise(5)))
    assert price.high_ns == close(4 * 300)
    assert price.mid_ns == close(0.75 * 4 * 300)
    assert price.low_ns == close(0.5 * 4 * 300)


def within(file: str) -> Run:
    """The chain inside a function of this file, and a sample of the stack that saw a library at work."""

    def body(drawn: Timeline) -> None:
        compute(drawn, 2_000)
        with drawn.span(f"{file}(12): forward", "python_function"):
            for _ in range(5):
                drawn.op("aten::add", kernel=300, kernel_name=POINTWISE)

    sample = FrameSample(time_ns=0, place="train.py:3", library="torch", call="transformers.forward")
    return run_of(steps(body), frames=(sample,))


def test_a_chain_of_a_library_is_a_choice_of_its_user() -> None:
    """GELU written with tanh, of a model that is not the program's own: nothing that its author planted."""
    finding = found(unfused_elementwise, within("transformers/activations.py"))
    assert finding.trades
    assert "if transformers has an option for it" in finding.fix
    assert not found(unfused_elementwise, within("model/activations.py")).trades


def test_two_pointwise_operations_are_no_chain() -> None:
    silent(unfused_elementwise, run_of(pointwise(2)))


def test_on_a_cpu_a_scalar_made_a_tensor_inside_an_operator_does_not_break_a_chain() -> None:
    """`0.5 * x` copies its scalar between two stretches of aten::mul: still one member, whose two stretches count once each.

    Three operators of 400 us around conversions of 2: fused, 400 stay, and 2 x 400 go (and their conversions are other work).
    """
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=2000)
            for _ in range(3):
                with drawn.span("aten::mul", "cpu_op"):
                    drawn.python(100)
                    drawn.op("aten::copy_", host=2)
                    drawn.python(300)
            drawn.op("aten::mm", host=2000)
    price = price_us(unfused_elementwise, run_of(drawn))
    assert price.high_ns == close(2 * 400)
    assert price.low_ns == close(0.5 * 2 * 400)


def test_on_a_cpu_the_nodes_of_backward_do_not_break_a_chain() -> None:
    """MulBackward0 and its kin have a little time of their own around each operator, and touch no memory."""
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=1_000)
            for _ in range(4):
                with drawn.span("autograd::engine::evaluate_function: MulBackward0", "cpu_op"):
                    drawn.python(3)
                    drawn.op("aten::mul", host=400)
    assert price_us(unfused_elementwise, run_of(drawn)).high_ns == close(3 * 400 + 3 * 3)


def inside_one_call(*, backward: bool) -> Run:
    """Pointwise operators of 400 us that one recurrent layer is made of, or the nodes of such operators in backward."""
    drawn, number = Timeline(device=None), 0
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=1_000)
            first = number
            with drawn.span("aten::gru", "cpu_op", sequence=number):
                for _ in range(6):
                    drawn.op("aten::mul", host=2 if backward else 400, sequence=number)
                    number += 1
            drawn.op("aten::mm", host=1_000)
            for i in range(number - 1, first - 1, -1) if backward else ():
                with drawn.span("autograd::engine::evaluate_function: MulBackward0", "cpu_op", sequence=i):
                    drawn.op("aten::mul", host=400)
    return run_of(drawn)


@pytest.mark.parametrize("backward", [False, True])
def test_what_one_call_is_made_of_is_no_chain(backward: bool) -> None:
    silent(unfused_elementwise, inside_one_call(backward=backward))


def test_on_a_cpu_short_operators_are_dispatch_and_only_their_passes_go() -> None:
    """Operators of 30 us that move 1 KiB: a pass takes 0.1 us of them, and fusing spares no more."""
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=500)
            for _ in range(30):
                drawn.op("aten::mul", host=30, dims=[[128]], types=["float"])
            drawn.op("aten::mm", host=500)
    price = price_us(unfused_elementwise, run_of(drawn, measured_peaks=(PEAK,), timed_steps_s=(0.0019,) * 5))
    assert price.high_ns < 5


LARGE = [1024, 1024]  # 4 MiB in fp32: to read and write it takes 1000 us
PEAK = MeasuredPeak(dtype="float32", flops=1e12, threads=1, how="a test", bandwidth_bytes_s=2 * 4 * 1024 * 1024 / 1e-3)


def chain(*names: str) -> Run:
    """Operations of 3000 us between two products of 2500, in 5 steps."""
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=2_500)
            for name in names:
                drawn.op(name, host=3_000, dims=[LARGE], types=["float"])
            drawn.op("aten::mm", host=2_500)
    timed = (0.005 + 0.003 * len(names),) * 5
    return run_of(drawn, measured_peaks=(PEAK,), timed_steps_s=timed)


@pytest.mark.parametrize(
    ("names", "arithmetic"),
    [(("neg", "abs", "neg"), 0), (("tanh", "neg", "tanh"), 2_000), (("bernoulli_", "neg", "bernoulli_"), 2_000)],
)
def test_of_the_others_only_arithmetic_stays(names: tuple[str, ...], arithmetic: int) -> None:
    """A negation that takes three times its pass over memory waits for memory, a tanh computes; one of the three stays whole."""
    price = price_us(unfused_elementwise, chain(*(f"aten::{name}" for name in names)))
    assert price.high_ns == close(2 * 3_000 - arithmetic)
