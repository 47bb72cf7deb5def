"""allocator-churn: driver calls that the device waits for are priced; a settled allocator makes none."""

from __future__ import annotations

from mfu_doctor.rules.host.allocator_churn import allocator_churn
from tests.rules.drawing import compute, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def allocating(us: int, calls: int, name: str = "cudaMalloc", kernel: int = 1_000) -> Timeline:
    def body(drawn: Timeline) -> None:
        for _ in range(calls):
            drawn.call(name, us, correlation=drawn._id())
        compute(drawn, kernel)
        drawn.sync()

    return steps(body)


def test_driver_allocations_that_the_device_waits_for_are_priced_at_their_length() -> None:
    price = price_us(allocator_churn, run_of(allocating(500, 4)))
    assert price.mid_ns == close(2_000)
    assert price.low_ns == close(1_000)


def test_frees_point_to_empty_cache() -> None:
    assert "empty_cache" in found(allocator_churn, run_of(allocating(500, 4, "cudaFree"))).fix


def test_a_settled_allocator_is_no_finding() -> None:
    silent(allocator_churn, run_of(allocating(0, 0)))
