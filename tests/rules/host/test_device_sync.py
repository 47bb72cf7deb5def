"""device-sync: a wait costs only where the queue runs dry after it."""

from __future__ import annotations

from typing import Any

from mfu_doctor.rules.host.device_sync import device_sync
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def loop(kernels: int, kernel: int, host: int, *, items: int) -> Timeline:
    """Steps of `kernels` operators, reading a value after each of the first `items`."""
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            for i in range(kernels):
                drawn.op("aten::mm", kernel=kernel, host=host)
                if i < items:
                    drawn.item()
    return drawn


def test_a_wait_after_every_operator_is_priced_as_the_lost_overlap() -> None:
    # host 400 us and device 500 us take turns; without waits the step is the device's 10 * 500 us
    run = run_of(loop(10, 500, 400, items=10))
    before = run.replay.measured_ns / 1000
    assert price_us(device_sync, run).high_ns == close(before - 10 * 502)
    finding = found(device_sync, run)
    assert "10 times per step" in finding.summary
    assert "loss.detach()" in finding.fix


def test_one_wait_a_step_behind_a_full_queue_saves_nothing() -> None:
    # the host needs 10 us per operator and the device 2 ms: what follows the wait is launched in time to matter little
    price = price_us(device_sync, run_of(loop(10, 2_000, 10, items=1)))
    assert price.high_ns < 0.01 * 20_000


def test_reading_every_other_step_or_rarer_is_no_finding() -> None:
    drawn = Timeline()
    for i in range(9):
        with drawn.step():
            drawn.op("aten::mm", kernel=500)
            if i % 4 == 2:
                drawn.item()
    silent(device_sync, run_of(drawn))


def test_the_wait_at_the_end_of_the_recording_is_no_finding() -> None:
    drawn = Timeline()
    with drawn.step():
        drawn.op("aten::mm", kernel=500)
        drawn.sync("cudaDeviceSynchronize")
    silent(device_sync, run_of(drawn))


def test_the_synchronisation_of_an_upload_belongs_to_the_copy() -> None:
    drawn = Timeline()
    for _ in range(5):
        with drawn.step():
            with drawn.span("aten::copy_", "cpu_op"):
                drawn.ids += 1
                ids: dict[str, Any] = {"correlation": drawn.ids}
                drawn.call("cudaMemcpyAsync", 300, **ids)
                drawn.device("Memcpy HtoD (Pageable -> Device)", 290, cat="gpu_memcpy", bytes=1 << 20, **ids)
                drawn.sync()
            drawn.op("aten::mm", kernel=500)
    silent(device_sync, run_of(drawn))


def test_masks_get_their_own_advice() -> None:
    drawn = Timeline()
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", kernel=500)
            with drawn.span("aten::nonzero", "cpu_op"):
                drawn.sync()
    assert "torch.where" in found(device_sync, run_of(drawn)).fix


def polling(*, other: int) -> Timeline:
    """1000 us on a side stream that the host polls for, then `other` kernels on the main stream that use the result."""
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            end = drawn.op("aten::embedding", kernel=1000, stream=20)
            while drawn.now < end:
                drawn.call("cudaEventQuery", 2, correlation=drawn._id())
                drawn.python(8)
            drawn.call("cudaEventQuery", 2, correlation=drawn._id())
            for _ in range(other):
                drawn.op("aten::mm", kernel=20, host=40)
    return drawn


def test_polling_is_a_wait_and_is_priced_as_the_launching_that_it_delays() -> None:
    """40 operators of 40 us follow the poll; without it they are launched meanwhile, but still run after what is polled."""
    run = run_of(polling(other=40))
    finding = found(device_sync, run)
    assert "wait_event" in finding.fix
    assert "event.query() in a loop" in str(finding.detail)
    before = run.replay.measured_ns / 1000
    assert price_us(device_sync, run).high_ns == close(before - 1610)


def test_polling_for_what_the_next_kernel_needs_saves_nothing_without_host_time() -> None:
    price = price_us(device_sync, run_of(polling(other=1)))
    assert price.high_ns < 70  # the 50 us of the two operators on the host, and how often it asked
