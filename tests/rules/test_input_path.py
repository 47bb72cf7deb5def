"""blocking-copy, cold-workers, slow-sample, host-made-tensor, wide-batch: each fires on its fault and is silent without."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.facts import LoaderFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.input.blocking_copy import blocking_copy
from mfu_doctor.rules.input.cold_workers import cold_workers
from mfu_doctor.rules.input.host_made_tensor import host_made_tensor
from mfu_doctor.rules.input.slow_sample import slow_sample
from mfu_doctor.rules.input.wide_batch import wide_batch
from tests.rules.drawing import compute, steps, upload
from tests.rules.judging import close, found, price_us, run_of
from tests.timeline import Timeline

MEGABYTE = 1 << 20
WORKERS = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"


def copying(us: int, size: int, kernel: int, **args: Any) -> Timeline:
    def body(drawn: Timeline) -> None:
        upload(drawn, us, size, **args)
        compute(drawn, kernel)

    return steps(body)


def test_a_pinned_copy_can_hide_behind_the_computation() -> None:
    # 2 ms of copy and 6 ms of computation take turns; on a stream of its own the copy hides
    price = price_us(blocking_copy, run_of(copying(2_000, 20 * MEGABYTE, 6_000)))
    assert price.mid_ns == close(2_000)
    assert "non_blocking=True" in found(blocking_copy, run_of(copying(2_000, 20 * MEGABYTE, 6_000))).fix


def test_a_copy_on_a_side_stream_is_no_finding() -> None:
    def body(drawn: Timeline) -> None:
        compute(drawn, 6_000)
        drawn.op("aten::copy_", kernel=2_000, kernel_name="Memcpy HtoD (Pinned -> Device)", cat="gpu_memcpy", stream=9)
        drawn.events[-2]["args"]["bytes"] = 20 * MEGABYTE

    assert blocking_copy.judge(run_of(steps(body, 8))) is None


def epochs(first: int, persistent: bool | None) -> Any:
    drawn = Timeline()
    for step in range(9):
        with drawn.step():
            drawn.fetch(first if step == 4 else 300, WORKERS)
            compute(drawn, 2_000)
            drawn.sync()
    loader = LoaderFacts(class_name="DataLoader", num_workers=4, persistent_workers=persistent, fetches=9)
    return run_of(drawn, loaders=(loader,))


def test_workers_that_start_again_are_priced_over_the_recorded_steps() -> None:
    run = epochs(80_300, False)
    judged = 7  # nine steps, of which the first is warm-up and the last has no end on the device
    assert price_us(cold_workers, run).mid_ns == close(80_000 / judged)
    assert "persistent_workers=True" in found(cold_workers, run).fix


@pytest.mark.parametrize(("first", "persistent"), [(80_300, True), (300, False)])
def test_persistent_or_quick_workers_are_no_finding(first: int, persistent: bool) -> None:
    assert cold_workers.judge(epochs(first, persistent)) is None


def uneven(slow: int, at: tuple[int, ...]) -> Timeline:
    drawn = Timeline()
    for step in range(12):
        with drawn.step():
            drawn.fetch(slow if step in at else 500, WORKERS)
            compute(drawn, 2_000)
            drawn.sync()
    return drawn


def test_slow_batches_are_priced_by_what_they_take_above_the_others() -> None:
    price = price_us(slow_sample, run_of(uneven(10_500, (5, 9))))
    assert price.mid_ns == close(2 * 10_000 / 10)
    assert price.low_ns == close(2 * 5_000 / 10)


def test_a_single_slow_batch_is_no_pattern() -> None:
    assert slow_sample.judge(run_of(uneven(10_500, (5,)))) is None


def test_even_batches_are_no_finding_and_few_are_not_judged() -> None:
    assert slow_sample.judge(run_of(uneven(700, (5,)))) is None
    assert isinstance(slow_sample.judge(run_of(few_steps(2))), Skip)


def few_steps(count: int) -> Timeline:
    return steps(lambda drawn: compute(drawn, 100), count + 2)


def small_uploads(count: int, size: int) -> Timeline:
    def body(drawn: Timeline) -> None:
        for _ in range(count):
            compute(drawn, 400, host=300)
            upload(drawn, 3, size, pinned=False, op="aten::to")

    return steps(body)


def test_small_tensors_from_the_host_stop_it_each_time() -> None:
    run = run_of(small_uploads(10, 64))
    # host 300 us and device 400 us take turns; without the copies the device runs back to back
    assert price_us(host_made_tensor, run).high_ns == close(run.replay.measured_ns / 1000 - 10 * 403)
    assert "10 small tensors" in found(host_made_tensor, run).summary


def test_one_small_upload_a_step_is_no_finding() -> None:
    assert host_made_tensor.judge(run_of(small_uploads(1, 64))) is None


FLOAT = {"dims": [[32, 3, 224, 224], [32, 3, 224, 224]], "types": ["float", "float"]}


def test_images_as_bytes_take_a_quarter_of_the_copy() -> None:
    price = price_us(wide_batch, run_of(copying(2_000, 18 * MEGABYTE, 6_000, **FLOAT)))
    assert price.mid_ns == close(1_500)
    assert price.low_ns == close(1_000)


def test_bytes_and_texts_are_no_finding() -> None:
    pixels = {"dims": [[32, 3, 224, 224]], "types": ["unsigned char"]}
    tokens = {"dims": [[32, 2048]], "types": ["float"]}
    for args in (pixels, tokens):
        assert wide_batch.judge(run_of(copying(2_000, 18 * MEGABYTE, 6_000, **args))) is None
