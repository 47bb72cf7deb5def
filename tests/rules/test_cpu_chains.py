"""unfused-elementwise on a CPU: what fusing spares, and what a stop while recording must not change about it."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import MeasuredPeak
from mfu_doctor.rules.kernels.unfused_elementwise import unfused_elementwise
from tests.rules.judging import close, price_us, run_of
from tests.timeline import Timeline

LARGE = [1024, 1024]  # 4 MiB in fp32: to read and write it takes 1000 us
PEAK = MeasuredPeak(dtype="float32", flops=1e12, threads=1, how="a test", bandwidth_bytes_s=2 * 4 * 1024 * 1024 / 1e-3)


def chain(*names: str, stopped_us: int = 0) -> Run:
    """Operations of 3000 us between two products of 2500, in 5 steps; in the second and fourth the middle one is stopped too."""
    drawn = Timeline(device=None)
    for step in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=2_500)
            for i, name in enumerate(names):
                stop = stopped_us if i == len(names) // 2 and step % 2 else 0
                drawn.op(name, host=3_000 + stop, dims=[LARGE], types=["float"])
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


def test_a_stop_while_recording_does_not_make_the_fused_operation_longer() -> None:
    """The longest member was long because something stopped it: unrecorded it is like the others."""
    calm, stopped = (price_us(unfused_elementwise, chain(*["aten::abs"] * 3, stopped_us=us)) for us in (0, 20_000))
    for end in ("low_ns", "mid_ns", "high_ns"):
        assert getattr(stopped, end) == pytest.approx(getattr(calm, end), rel=0.03)
