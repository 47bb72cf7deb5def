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


@pytest.mark.parametrize(
    ("name", "major", "groups", "units", "peak"),
    [
        ("AMD Radeon RX 7900 XTX", 11, 48, 96, 122.8e12),
        ("AMD Radeon RX 7900 XT", 11, 42, 84, 103.2e12),
        ("AMD Radeon PRO W7900", 11, 48, 96, 122.6e12),
        ("AMD Radeon RX 9070 XT", 12, 32, 64, 194.6e12),
        ("AMD Radeon RX 9070", 12, 28, 56, 144.5e12),
    ],
)
def test_hip_counts_work_group_processors_on_rdna(name: str, major: int, groups: int, units: int, peak: float) -> None:
    """Each of them is two compute units: half as many are not half of the card."""
    for sms in (groups, units):
        peaks = resolve(drawn(name, major, 0, sms, call="hipLaunchKernel"), None, is_cpu=False)
        assert (peaks.of("fp16"), peaks.sms, peaks.confidence) == (peak, units, peaks.confidence)
        assert not [warning for warning in peaks.warnings if "scaled" in warning]


def test_an_rdna_card_that_is_not_in_the_table_has_two_units_for_each_that_hip_counts() -> None:
    """An RX 7800 XT: 60 compute units, 74.6 TFLOP/s fp16 published."""
    peaks = resolve(drawn("AMD Radeon RX 7800 XT", 11, 0, 30, call="hipLaunchKernel"), None, is_cpu=False)
    assert peaks.sms == 60
    assert peaks.of("fp16") == pytest.approx(74.6e12, rel=0.03)
    assert "60 compute units" in peaks.warnings[0]


def test_half_of_a_cdna_card_is_half_of_it() -> None:
    """A partition of an MI300X: CDNA has no work-group processors."""
    peaks = resolve(drawn("AMD Instinct MI300X", 9, 4, 152, call="hipLaunchKernel"), None, is_cpu=False)
    assert peaks.of("bf16") == pytest.approx(1307e12 / 2)
    assert "152 compute units" in peaks.warnings[0]


@pytest.mark.parametrize(
    "name", ["Quadro T1000", "NVIDIA T1200 Laptop GPU", "NVIDIA GeForce MX450", "NVIDIA T550 Laptop GPU"]
)
def test_a_turing_card_without_tensor_cores_gets_no_derived_16_bit_rate(name: str) -> None:
    peaks = resolve(drawn(name, 7, 5, 14), None, is_cpu=False)
    assert peaks.best == "fp32"
    assert peaks.of("fp16") is None


def test_a_turing_card_with_tensor_cores_keeps_its_derived_rate() -> None:
    peaks = resolve(drawn("Quadro RTX 3000", 7, 5, 30), None, is_cpu=False)
    assert peaks.best == "fp16"


def test_a_pascal_card_that_is_not_in_the_table_computes_fp16_at_a_64th() -> None:
    peaks = resolve(drawn("NVIDIA GeForce GTX 1070", 6, 1, 15), None, is_cpu=False)
    fp32 = peaks.of("fp32")
    assert peaks.best == "fp32"
    assert fp32 is not None
    assert peaks.of("fp16") == pytest.approx(fp32 / 64)
