"""Rules about collectives: sizes, repetition, format, and what runs where; exposed time alone has a price."""

from __future__ import annotations

from mfu_doctor.rules.communication.data_parallel import data_parallel
from mfu_doctor.rules.communication.fp32_gradients import fp32_gradients
from mfu_doctor.rules.communication.late_gathers import late_gathers
from mfu_doctor.rules.communication.non_nccl_backend import non_nccl_backend
from mfu_doctor.rules.communication.scalar_collectives import scalar_collectives
from mfu_doctor.rules.communication.slow_link import slow_link
from mfu_doctor.rules.communication.small_buckets import small_buckets
from mfu_doctor.rules.communication.sync_every_microbatch import sync_every_microbatch
from mfu_doctor.rules.contract import Skip
from tests.rules.drawing import collective, compute, steps, wait_for_collectives
from tests.rules.judging import close, found, price_us, run_of
from tests.timeline import Timeline

MILLION = 1 << 20  # elements


def communicating(*sizes_us: tuple[int, int], kind: str = "allreduce", ranks: int = 8) -> Timeline:
    """2 ms of computation, then collectives of (elements, microseconds) one after another, then their use."""

    def body(drawn: Timeline) -> None:
        compute(drawn, 2_000)
        for size, us in sizes_us:
            collective(drawn, us, size=size, kind=kind, ranks=ranks)
        wait_for_collectives(drawn)

    return steps(body)


def test_many_small_all_reduces_are_priced_as_one_bucket() -> None:
    # 40 of 4 KiB in 50 us each: one bucket of 160 KiB takes one latency
    price = price_us(small_buckets, run_of(communicating(*[(1024, 50)] * 40)))
    assert price.mid_ns == close(40 * 50 - 50)
    assert price.low_ns == close((40 * 50 - 50) / 2)


def test_large_buckets_are_no_finding() -> None:
    assert small_buckets.judge(run_of(communicating((6 * MILLION, 900), (6 * MILLION, 900)))) is None


def accumulating(rounds: list[list[int]]) -> Timeline:
    def body(drawn: Timeline) -> None:
        for sizes in rounds:
            drawn.fetch(10)
            compute(drawn, 1_000)
            for size in sizes:
                collective(drawn, 400, size=size)
            wait_for_collectives(drawn, 20)

    return steps(body)


def test_equal_reductions_after_each_of_three_micro_batches_are_two_too_many() -> None:
    run = run_of(accumulating([[MILLION, 2 * MILLION]] * 3))
    assert price_us(sync_every_microbatch, run).mid_ns == close(2 * 2 * 400)
    assert "no_sync" in found(sync_every_microbatch, run).fix


def test_reducing_once_a_step_is_no_finding() -> None:
    assert sync_every_microbatch.judge(run_of(accumulating([[], [], [MILLION, 2 * MILLION]]))) is None


def replicating(*, parallel: bool) -> Timeline:
    def body(drawn: Timeline) -> None:
        if parallel:
            with drawn.span("Broadcast", "cpu_op"):
                drawn.python(500)
                drawn.op("aten::copy_", kernel=300, kernel_name="Memcpy PtoP (Device -> Device)", cat="gpu_memcpy")
        compute(drawn, 1_000)
        drawn.sync()

    return steps(body)


def test_the_replication_of_data_parallel_is_priced() -> None:
    price = price_us(data_parallel, run_of(replicating(parallel=True)))
    assert price.high_ns == close(510 + 300)
    assert data_parallel.judge(run_of(replicating(parallel=False))) is None


def test_what_replicas_compute_inside_data_parallel_stays() -> None:
    def body(drawn: Timeline) -> None:
        with drawn.span("DataParallel.forward"):
            drawn.python(1)
            with drawn.span("Broadcast", "cpu_op"):
                drawn.python(500)
            compute(drawn, 1_000, host=400)
        drawn.sync()

    assert price_us(data_parallel, run_of(steps(body))).high_ns == close(500)


def test_a_collective_at_a_tenth_of_the_link_is_priced_at_four_fifths_of_it() -> None:
    # 64 MiB over 8 ranks: 117 MB on the bus; at 30 GB/s 3.9 ms, at 0.8 * 300 GB/s 0.49 ms
    size = 16 * MILLION
    moved = size * 4 * 2 * 7 / 8
    run = run_of(communicating((size, 3_900)))
    assert price_us(slow_link, run).mid_ns == close(3_900 - moved / (0.8 * 300e9) * 1e6)
    assert price_us(slow_link, run).low_ns == close((3_900 - moved / (0.4 * 300e9) * 1e6) / 2)
    assert "of NVLink" in found(slow_link, run).summary


def test_what_no_link_explains_is_left_to_the_late_rank_at_the_low_end() -> None:
    """117 MB in 39 ms are 3 GB/s; through host memory they would take 18.6 ms: only half of that is promised."""
    run = run_of(communicating((16 * MILLION, 39_000)))
    moved = 16 * MILLION * 4 * 2 * 7 / 8
    by_host = moved / (0.8 * 16 * 0.985e9 / 2) * 1e6
    assert price_us(slow_link, run).low_ns == close((by_host - moved / (0.4 * 300e9) * 1e6) / 2)
    assert "waiting for a late rank" in (found(slow_link, run).detail or "")


def test_a_fast_link_is_no_finding_and_a_network_is_not_judged() -> None:
    assert slow_link.judge(run_of(communicating((16 * MILLION, 600)))) is None
    assert isinstance(slow_link.judge(run_of(communicating((16 * MILLION, 3_900), ranks=64))), Skip)


def test_cards_whose_link_needs_a_bridge_are_not_judged() -> None:
    drawn = Timeline(device="NVIDIA H100 PCIe")
    for _ in range(4):
        with drawn.step():
            compute(drawn, 2_000)
            collective(drawn, 20_000, size=16 * MILLION)
            wait_for_collectives(drawn)
    assert isinstance(slow_link.judge(run_of(drawn)), Skip)


def test_gloo_on_a_gpu_is_priced_at_its_host_time() -> None:
    def body(drawn: Timeline) -> None:
        compute(drawn, 1_000)
        drawn.sync()
        with drawn.span("gloo:all_reduce"):
            drawn.python(2_000)

    assert price_us(non_nccl_backend, run_of(steps(body))).high_ns == close(2_000)
    assert non_nccl_backend.judge(run_of(communicating((MILLION, 100)))) is None


def test_reducing_a_metric_in_each_step_is_priced() -> None:
    run = run_of(communicating((1, 300)))
    assert price_us(scalar_collectives, run).mid_ns == close(300)
    assert "broadcast_buffers" in found(scalar_collectives, run_of(communicating((16, 30), kind="broadcast"))).fix
    assert scalar_collectives.judge(run_of(communicating((MILLION, 300)))) is None


def test_half_of_the_bytes_take_a_little_more_than_half_of_the_time() -> None:
    price = price_us(fp32_gradients, run_of(communicating((8 * MILLION, 2_000))))
    assert price.mid_ns == close(0.45 * 2_000)
    assert price.high_ns == close(0.5 * 2_000)
    assert fp32_gradients.judge(run_of(communicating((1024, 50)))) is None


def test_gathers_that_a_layer_waits_for_are_priced_at_their_exposed_time() -> None:
    price = price_us(late_gathers, run_of(communicating((MILLION, 1_000), kind="allgather")))
    assert price.low_ns == close(500)
    assert price.high_ns == close(1_000)
    assert late_gathers.judge(run_of(communicating((MILLION, 1_000)))) is None
