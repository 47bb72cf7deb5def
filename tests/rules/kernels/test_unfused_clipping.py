"""unfused-clipping: norms of single gradients become one launch."""

from __future__ import annotations

from mfu_doctor.rules.kernels.unfused_clipping import unfused_clipping
from tests.rules.drawing import between, compute, steps
from tests.rules.judging import close, price_us, run_of, silent
from tests.timeline import Timeline


def clipping(norms: int) -> Timeline:
    return between(*[("aten::linalg_vector_norm", 5, "reduce_kernel")] * norms)


def test_norms_of_single_gradients_become_one_launch() -> None:
    def body(drawn: Timeline) -> None:
        compute(drawn, 100)
        for _ in range(100):
            drawn.op("aten::linalg_vector_norm", kernel=5, host=30, kernel_name="reduce_kernel")

    price = price_us(unfused_clipping, run_of(steps(body)))
    # 3 ms of host time in a host-bound step: 60, 80 and 90 % of it
    assert price.low_ns == close(0.6 * 3_000)
    assert price.mid_ns > price.low_ns
    silent(unfused_clipping, run_of(clipping(4)))
