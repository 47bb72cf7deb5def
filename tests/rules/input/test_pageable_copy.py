"""pageable-copy: batches from pageable memory block the host; copies that hide, or are pinned, are left alone."""

from __future__ import annotations

import math

from mfu_doctor.facts import DeviceSamples, LoaderFacts
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
    # 24 MB in 4 ms are 6 GB/s; 80 % of the PCIe 4.0 x16 of an A100 are 0.8 * 1.97 * 16 = 25.2 GB/s; the middle is 12.3: 1.95 ms
    price = price_us(pageable_copy, run_of(loop(PAGEABLE, 4_000, 24 * MEGABYTE)))
    pinned = 24e6 / math.sqrt(6e9 * 25.216e9) * 1e6
    assert price.mid_ns == close(4_000 - pinned)
    assert price.low_ns == close((4_000 - pinned) / 2)
    assert price.high_ns == close(4_000)  # on a stream of its own the copy hides behind 4 ms of computation


def test_pinned_copies_are_no_finding() -> None:
    silent(pageable_copy, run_of(loop(PINNED, 2_000, 24 * MEGABYTE)))


def test_small_pageable_copies_are_staged_and_no_finding() -> None:
    silent(pageable_copy, run_of(loop(PAGEABLE, 10, 4_096)))


def test_a_copy_beside_a_long_step_saves_next_to_nothing() -> None:
    run = run_of(loop(PAGEABLE, 20, 128 * 1024, kernel=40_000))
    assert price_us(pageable_copy, run).high_ns < 0.01 * 40_000


def test_an_assumed_link_is_told_with_its_limit() -> None:
    detail = found(pageable_copy, run_of(loop(PAGEABLE, 3_000, 20 * MEGABYTE, kernel=500))).detail or ""
    assert "at most 25 GB/s with this card (13 GB/s is assumed)" in detail


def test_a_link_that_was_read_is_used_as_it_is() -> None:
    link = DeviceSamples(device="0", pcie_gen=3, pcie_gen_max=4, pcie_width=16)
    run = run_of(loop(PAGEABLE, 4_000, 24 * MEGABYTE), samples=(link,))
    assert price_us(pageable_copy, run).mid_ns == close(4_000 - 24e6 / 12.608e9 * 1e6)


def test_pinned_copies_of_the_same_run_say_what_the_link_reaches() -> None:
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            upload(drawn, PAGEABLE, 4_000, 24 * MEGABYTE)
            upload(drawn, PINNED, 1_000, 8 * MEGABYTE)
            drawn.op("aten::mm", kernel=4_000)
    assert price_us(pageable_copy, run_of(drawn)).mid_ns == close(4_000 - 24 / 8 * 1_000)


def test_pinning_a_loader_is_advised_only_where_there_is_one() -> None:
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.fetch(100)
            upload(drawn, PAGEABLE, 4_000, 24 * MEGABYTE)
            drawn.op("aten::mm", kernel=4_000)
    assert "DataLoader(..., pin_memory=True)" in found(pageable_copy, run_of(drawn)).fix
    without = found(pageable_copy, run_of(loop(PAGEABLE, 4_000, 24 * MEGABYTE))).fix
    assert "DataLoader" not in without
    assert "pin_memory=True" in without


def test_batches_of_a_generator_are_written_into_pinned_memory() -> None:
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.fetch(100, "mfu_doctor.fetch")
            upload(drawn, PAGEABLE, 4_000, 24 * MEGABYTE)
            drawn.op("aten::mm", kernel=4_000)
    loader = LoaderFacts(class_name="generator", num_workers=0, fetches=6)
    assert "DataLoader" not in found(pageable_copy, run_of(drawn, loaders=(loader,))).fix


def tailed(tail: int) -> Timeline:
    """The call of a copy returns so long before the copy ends, because its last chunk is staged."""
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.ids += 1
            ids = {"correlation": drawn.ids}
            issued = drawn.now
            end = drawn.device(PAGEABLE, 30_000, cat="gpu_memcpy", bytes=144 * MEGABYTE, **ids)
            drawn.add("cuda_runtime", "cudaMemcpyAsync", issued, end - tail - issued, **ids)
            drawn.now = end - tail
            drawn.sync("cudaDeviceSynchronize")
            drawn.op("aten::mm", kernel=4_000)
            drawn.sync("cudaDeviceSynchronize")
    return drawn


def test_equal_copies_have_equal_prices_however_long_their_last_chunk_takes() -> None:
    short, long = (price_us(pageable_copy, run_of(tailed(tail))) for tail in (90, 400))
    assert short.mid_ns == close(30_000 - 144e6 / math.sqrt(4.8e9 * 25.216e9) * 1e6)
    assert long.mid_ns == close(short.mid_ns)
