"""pageable-read: large results that the CPU waits for; small ones, pinned ones and hidden ones are left alone."""

from __future__ import annotations

import math

import pytest

from mfu_doctor.api.diagnose import diagnose
from mfu_doctor.rules.host.device_sync import device_sync
from mfu_doctor.rules.host.pageable_read import pageable_read
from mfu_doctor.rules.input.pageable_copy import pageable_copy
from tests.rules.drawing import compute, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

UP, DOWN = "Memcpy HtoD (Pageable -> Device)", "Memcpy DtoH (Device -> Pageable)"
PINNED_UP, PINNED_DOWN = "Memcpy HtoD (Pinned -> Device)", "Memcpy DtoH (Device -> Pinned)"
MEGABYTE = 1_000_000


def copy(
    drawn: Timeline, name: str, us: int, size: int, *, stream: int = 7, tail: int = 2, synchronised: bool = False
) -> None:
    """A copy; from or to pageable memory its call returns `tail` us after its end."""
    drawn.ids += 1
    ids = {"correlation": drawn.ids}
    with drawn.span("aten::copy_", "cpu_op"):
        issued = drawn.now
        end = drawn.device(name, us, cat="gpu_memcpy", bytes=size, stream=stream, **ids)
        drawn.now = end + tail if "Pageable" in name else issued + 5
        drawn.add("cuda_runtime", "cudaMemcpyAsync", issued, drawn.now - issued, **ids)
        if synchronised:
            drawn.sync(stream=stream)


def reading(name: str, us: int, size: int) -> Timeline:
    def body(drawn: Timeline) -> None:
        compute(drawn, 4_000)
        copy(drawn, name, us, size)

    return steps(body)


def both_ways(tail: int) -> Timeline:
    """What a public pair of recordings shows before pinning: 154 MB up and down again, on two streams, on an A100."""
    drawn = Timeline(device="NVIDIA A100-SXM4-40GB")
    for _ in range(8):
        with drawn.step():
            copy(drawn, UP, 32_300, 154_140_672, stream=22, tail=-tail)
            copy(drawn, DOWN, 34_600, 154_140_672, stream=20, tail=343)
            drawn.sync("cudaDeviceSynchronize", tail=200)
    return drawn


def test_a_large_read_is_priced_by_its_bytes_over_what_pinned_memory_reaches() -> None:
    # 24 MB in 4 ms are 6 GB/s; the middle between that and the 25.2 GB/s of PCIe 4.0 is 12.3 GB/s
    run = run_of(reading(DOWN, 4_000, 24 * MEGABYTE))
    pinned = 24e6 / math.sqrt(6e9 * 25.216e9) * 1e6
    price = price_us(pageable_read, run)
    assert price.mid_ns == close(4_000 - pinned)
    assert price.low_ns == close((4_000 - pinned) / 2)
    finding = found(pageable_read, run)
    assert "pin_memory=True); out.copy_(x, non_blocking=True)" in finding.fix
    assert "50 % of the step" in finding.summary


@pytest.mark.parametrize(("name", "us", "size"), [(PINNED_DOWN, 2_000, 24 * MEGABYTE), (DOWN, 10, 4_096)])
def test_pinned_and_small_reads_are_no_finding(name: str, us: int, size: int) -> None:
    silent(pageable_read, run_of(reading(name, us, size)))


def test_a_wait_for_the_copy_itself_is_a_matter_of_the_copy() -> None:
    assert "pageable-read" in found(device_sync, run_of(reading(DOWN, 40_000, 200 * MEGABYTE))).symptom_of
    assert "pageable-read" not in found(device_sync, run_of(reading(DOWN, 100, 400_000))).symptom_of


@pytest.mark.parametrize("tail", [90, 110, 400])
def test_pinning_both_ways_leaves_the_step_that_was_measured_after_it(tail: int) -> None:
    # measured after pinning: 30.7 ms (one copy after the other would be 10 GB/s; PCIe is at most 25 GB/s)
    plan = diagnose(both_ways(tail).trace()).plan
    assert plan is not None
    assert {step.rule for step in plan.steps} == {"pageable-read", "pageable-copy"}
    assert plan.steps[-1].step_s * 1e3 == pytest.approx(30.7, rel=0.1)


def test_copies_in_both_directions_take_turns_on_the_link_but_in_the_best_case() -> None:
    run = run_of(both_ways(100))
    up, down = found(pageable_copy, run).change, found(pageable_read, run).change
    assert up is not None
    assert down is not None
    step_us = [run.replay.step_ns((*getattr(up, end), *getattr(down, end))) / 1_000 for end in ("mid", "high")]
    up_s, down_s = (154.1e6 / math.sqrt(154.1e6 / now * 25.216e9) for now in (32.3e-3, 34.6e-3))
    assert step_us[0] == pytest.approx((up_s + down_s) * 1e6, rel=0.02)
    assert step_us[1] == pytest.approx(154.1e6 / 25.216e9 * 1e6, rel=0.06)


def test_what_ran_at_the_same_time_in_the_recording_still_does() -> None:
    drawn = Timeline()
    for _ in range(8):
        with drawn.step():
            copy(drawn, PINNED_DOWN, 17_700, 154_140_672, stream=20)
            copy(drawn, PINNED_UP, 30_500, 154_140_672, stream=22)
            drawn.sync("cudaDeviceSynchronize")
    run = run_of(drawn)
    assert abs(run.replay.error) < 0.01
    assert run.replay.base_ns / 1_000 == close(30_510)


@pytest.mark.parametrize("synchronised", [True, False])
def test_what_an_upload_feeds_on_another_stream_still_waits_for_it(synchronised: bool) -> None:
    """With or without the synchronisation that PyTorch adds to an upload: the same price."""

    def body(drawn: Timeline) -> None:
        copy(drawn, UP, 10_000, 50 * MEGABYTE, stream=22, tail=-100, synchronised=synchronised)
        drawn.op("aten::mm", kernel=5_000)
        drawn.sync("cudaDeviceSynchronize")

    run = run_of(steps(body))
    change = found(pageable_copy, run).change
    assert change is not None
    likely_us = 50e6 / math.sqrt(5e9 * 25.216e9) * 1e6
    assert run.replay.step_ns(change.mid) / 1_000 == close(likely_us + 5_000)


def test_both_ways_are_priced_alike_with_and_without_a_synchronisation_between() -> None:
    def body(synchronised: bool) -> Timeline:
        drawn = Timeline()
        for _ in range(6):
            with drawn.step():
                copy(drawn, UP, 32_300, 154_140_672, stream=22, tail=-100, synchronised=synchronised)
                copy(drawn, DOWN, 34_600, 154_140_672, stream=20, tail=343)
                drawn.sync("cudaDeviceSynchronize")
        return drawn

    with_sync, without = (price_us(pageable_copy, run_of(body(synchronised))) for synchronised in (True, False))
    assert with_sync.mid_ns == close(without.mid_ns)
    assert with_sync.high_ns == close(without.high_ns)
