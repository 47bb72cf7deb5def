"""exposed-communication: only the part of a collective behind which nothing is computed has a price."""

from __future__ import annotations

from mfu_doctor.rules.communication.exposed_communication import exposed_communication
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

KERNEL = "ncclDevKernel_AllReduce_Sum_f32_RING_LL"
COMMUNICATION = 20  # stream


def loop(collectives: list[int], hidden: int, *, size: int = 1 << 20) -> Timeline:
    """Each step computes 3 ms beside `hidden` us of communication, then waits for one collective after another."""
    drawn = Timeline()
    for step in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=3_000)
            end = drawn.free[7]
            told = {"Collective name": "allreduce", "dtype": "Float", "In msg nelems": size}
            if hidden:
                drawn.op("c10d::allreduce_", kernel=hidden, kernel_name=KERNEL, stream=COMMUNICATION)
            us = collectives[step % len(collectives)]
            drawn.op("c10d::allreduce_", kernel=us, kernel_name=KERNEL, stream=COMMUNICATION, ready=end)
            drawn.events[-2]["args"] |= told
            drawn.call("cudaStreamWaitEvent", 2)
            drawn.op("aten::add_", kernel=100, ready=drawn.free[COMMUNICATION])
            drawn.sync("cudaDeviceSynchronize")
    return drawn


def test_exposed_transfer_is_priced_from_half_to_all() -> None:
    price = price_us(exposed_communication, run_of(loop([2_000], 0)))
    assert price.low_ns == close(1_000)
    assert price.mid_ns == close(2_000)
    assert price.high_ns == close(2_000)


def test_what_exceeds_the_fastest_equal_collective_is_waiting_for_ranks() -> None:
    # 1 ms at best; half of them wait 3 ms more for a late rank: only the high end counts on that
    price = price_us(exposed_communication, run_of(loop([1_000, 4_000], 0)))
    assert price.mid_ns == close(1_000)
    assert price.high_ns > 1.5 * price.mid_ns
    assert found(exposed_communication, run_of(loop([1_000, 4_000], 0))).confidence == "hint"


def test_communication_behind_computation_is_no_finding() -> None:
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=3_000)
            drawn.op("c10d::allreduce_", kernel=1_000, kernel_name=KERNEL, stream=COMMUNICATION)
    silent(exposed_communication, run_of(drawn))


def test_a_single_rank_is_no_finding() -> None:
    drawn = Timeline()
    with drawn.step():
        drawn.op("aten::mm", kernel=3_000)
    silent(exposed_communication, run_of(drawn))


def test_more_communication_than_computation_cannot_be_hidden() -> None:
    """300 us of computation can cover 300 of 2000 us of collectives, whatever the buckets."""
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            end = drawn.op("aten::mm", kernel=300)
            comm = drawn.op(
                "c10d::allreduce_", kernel=2_000, kernel_name="ncclDevKernel_AllReduce", stream=20, ready=end
            )
            drawn.op("aten::add_", kernel=1, ready=comm)
    assert price_us(exposed_communication, run_of(drawn)).high_ns == close(301)
