"""Which figure is the peak where several could be: a user's low one, a device that nobody named, a doubted measurement."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.devices import resolve
from mfu_doctor.facts import Facts, MeasuredPeak
from mfu_doctor.trace import Trace
from tests.devices.test_devices import drawn, with_facts
from tests.reference import from_json


def on_device(index: int, devices: list[dict[str, Any]]) -> Trace:
    """One kernel on this device, and these devices listed."""
    args = {"device": index, "stream": 7}
    kernel = {"ph": "X", "cat": "kernel", "name": "k", "pid": index, "tid": 7, "ts": 5, "dur": 3, "args": args}
    return from_json({"deviceProperties": devices, "traceEvents": [kernel]})


def test_a_peak_below_those_of_wider_formats_caps_them() -> None:
    """No format is faster than the best: with 50 TFLOP/s given for an H100, fp32 is not left at 67."""
    peaks = resolve(drawn("NVIDIA H100 80GB HBM3", 9, 0, 132), 50e12, is_cpu=False)
    assert peaks.of("bf16") == 50e12
    assert peaks.of("fp32") == 50e12


def test_a_device_that_is_not_listed_is_not_taken_for_one_of_several_that_are() -> None:
    """Two kinds are listed and the work ran on neither: either's peak would be a guess."""
    h100 = {"name": "NVIDIA H100 80GB HBM3", "computeMajor": 9, "computeMinor": 0, "numSms": 132}
    t4 = {"name": "Tesla T4", "computeMajor": 7, "computeMinor": 5, "numSms": 40}
    peaks = resolve(on_device(5, [{"id": 0, **t4}, {"id": 1, **h100}]), None, is_cpu=False)
    assert peaks.dense == {}
    assert "does not show on which accelerator" in str(peaks.reason)
    alike = resolve(on_device(5, [{"id": 0, **h100}, {"id": 1, **h100}]), None, is_cpu=False)
    assert alike.of("bf16") == 989.4e12


def measured(**flops: float) -> Facts:
    return Facts(
        measured_peaks=tuple(MeasuredPeak(dtype=d, flops=f, threads=2, how="measured") for d, f in flops.items())
    )


def test_twice_a_measured_peak_is_not_taken_for_a_figure_with_sparsity() -> None:
    """Sparsity is a thing of datasheets; a processor that was busy while it was measured may well do twice as much."""
    cpu = with_facts(from_json([]), measured(float32=1e11))
    assert resolve(cpu, 2e11, is_cpu=True).warnings == ()


@pytest.mark.parametrize(("reached", "emulated"), [(1e11, set()), (2e9, {"bf16"})])
def test_a_format_in_which_the_run_was_fast_is_not_emulated(reached: float, emulated: set[str]) -> None:
    """bf16 was measured at a hundredth of fp32 on a busy machine; what a product of the run reached is a measurement too."""
    cpu = with_facts(from_json([]), measured(float32=1e11, bfloat16=1e9))
    peaks = resolve(cpu, None, is_cpu=True, reached={"bf16": reached})
    assert peaks.emulated == emulated
    assert ("bf16" in peaks.dense) == (not emulated)
