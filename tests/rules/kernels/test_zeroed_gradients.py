"""zeroed-gradients: the zeros go with the host time that they take."""

from __future__ import annotations

from mfu_doctor.rules.kernels.zeroed_gradients import zeroed_gradients
from tests.rules.drawing import POINTWISE, compute, steps
from tests.rules.judging import close, price_us, run_of, silent
from tests.timeline import Timeline


def zeroing(ops: int) -> Timeline:
    def body(drawn: Timeline) -> None:
        compute(drawn, 500)
        drawn.sync()
        with drawn.span("Optimizer.zero_grad#SGD.zero_grad"):
            for _ in range(ops):
                drawn.op("aten::zero_", kernel=3, host=20, kernel_name=POINTWISE)
            drawn.python(20)

    return steps(body)


def test_zeros_are_priced_with_the_host_time_of_their_span() -> None:
    price = price_us(zeroed_gradients, run_of(zeroing(100)))
    assert price.mid_ns == close(100 * 20)
    assert price.low_ns == close(100 * 10)
    silent(zeroed_gradients, run_of(zeroing(0)))
