"""pageable-copy: batches from pageable memory block the host; copies that hide, or are pinned, are left alone."""

from __future__ import annotations

from mfu_doctor.rules.input.pageable_copy import pageable_copy
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

PAGEABLE, PINNED = "Memcpy HtoD (Pageable -> Device)", "Memcpy HtoD (Pinned -> Device)"
MEGABYTE = 1_000_000


def upload(drawn: Timeline, name: str, us: int, size: int) -> None:
    """A batch copy as PyTorch issues it: a pageable one holds its call until the copy is nearly done."""
    blocks = name == PAGEABLE
    with drawn.span("aten::copy_", "cpu_op"):
        drawn.ids += 1
        ids = {"correlation": drawn.ids}
        start = max(drawn.now, drawn.free.get(7, 0)) if blocks else drawn.now
        drawn.now, issued = start, drawn.now
        drawn.device(name, us, cat="gpu_memcpy", bytes=size, **ids)
        end = drawn.free[7] - 3 if blocks else issued + 5
        drawn.add("cuda_runtime", "cudaMemcpyAsync", issued, end - issued, **ids)
        drawn.now = end
        if blocks:
            drawn.sync()


def loop(name: str, us: int, size: int, kernel: int = 4_000) -> Timeline:
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            upload(drawn, name, us, size)
            drawn.op("aten::mm", kernel=kernel)
    return drawn


def test_a_pageable_batch_is_priced_by_its_bytes_over_the_pinned_bandwidth() -> None:
    # 24 MB in 4 ms are 6 GB/s; PCIe 3.0 x16 gives 0.8 * 0.985 * 16 = 12.6 GB/s when pinned: 1.90 ms
    price = price_us(pageable_copy, run_of(loop(PAGEABLE, 4_000, 24 * MEGABYTE)))
    pinned = 24e6 / 12.608e9 * 1e6
    assert price.mid_ns == close(4_000 - pinned)
    assert price.low_ns == close((4_000 - pinned) / 2)
    assert price.high_ns == close(4_000)  # on a stream of its own the copy hides behind 4 ms of computation
    assert "pin_memory=True" in found(pageable_copy, run_of(loop(PAGEABLE, 4_000, 24 * MEGABYTE))).fix


def test_pinned_copies_are_no_finding() -> None:
    silent(pageable_copy, run_of(loop(PINNED, 2_000, 24 * MEGABYTE)))


def test_small_pageable_copies_are_staged_and_no_finding() -> None:
    silent(pageable_copy, run_of(loop(PAGEABLE, 10, 4_096)))


def test_a_copy_beside_a_long_step_saves_next_to_nothing() -> None:
    run = run_of(loop(PAGEABLE, 20, 128 * 1024, kernel=40_000))
    assert price_us(pageable_copy, run).high_ns < 0.01 * 40_000


def test_an_assumed_link_is_called_the_least_there_is() -> None:
    drawn = Timeline()
    for _ in range(5):
        with drawn.step():
            upload(drawn, PAGEABLE, 3_000, 20 * MEGABYTE)
            drawn.op("aten::mm", kernel=500)
    assert "at least" in (found(pageable_copy, run_of(drawn)).detail or "")
