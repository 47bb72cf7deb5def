"""Runs whose device was sampled: what the tests of the device rules start from."""

from __future__ import annotations

from typing import Any

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import DeviceSamples, Window
from mfu_doctor.units import NS_PER_MS
from tests.rules.judging import run_of
from tests.timeline import Timeline

PRODUCT_US, OTHER_US, STEPS = 800, 200, 5


def products() -> Timeline:
    """Steps of 800 us of products and 200 us of something else on a device that never waits."""
    drawn = Timeline()
    for _ in range(STEPS):
        with drawn.step():
            drawn.op("aten::mm", kernel=PRODUCT_US, kernel_name="ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_tn")
            drawn.op("aten::add", kernel=OTHER_US, kernel_name="void at::native::vectorized_elementwise_kernel<4>")
    return drawn


def sampled_run(count: int = 20, drawn: Timeline | None = None, **readings: Any) -> Run:
    """A run with `count` samples, 100 ms apart, all busy unless `readings` (columns or scalars of one device) say else."""
    readings = {"util_gpu": (99.0,) * count} | readings
    device = DeviceSamples(device="0", time_ns=tuple(i * 100 * NS_PER_MS for i in range(count)), **readings)
    return run_of(drawn or products(), samples=(device,))


def recorded_between(start_ms: int, end_ms: int) -> tuple[Window, ...]:
    """The recorded windows of a capture that recorded in this time."""
    return (Window(kind="timing", start_ns=start_ms * NS_PER_MS, end_ns=end_ms * NS_PER_MS, steps=STEPS),)
