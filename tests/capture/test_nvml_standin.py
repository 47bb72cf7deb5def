"""The device sampler on a compiled stand-in for the driver's library, through the real binding, in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.capture.nvml_standin.build import NEWEST, build, needs_compiler
from tests.patience import LONGEST_S

ROOT = Path(__file__).resolve().parents[2]
pytestmark = needs_compiler

CARD = "GPU-00000000-aaaa-bbbb-cccc-dddddddddddd"
INSTANCE = "MIG-00000000-aaaa-bbbb-cccc-eeeeeeeeeeee"

Told = dict[str, Any]
Sample = Callable[..., Told]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Samples with a driver of some version that follows a script; returns what the child process tells."""
    built: dict[int, Path] = {}

    def library(driver: int) -> Path:
        if driver not in built:
            built[driver] = build(tmp_path_factory.mktemp(f"driver-{driver}"), driver)
        return built[driver]

    def run(script: str = "", *targets: str, driver: int = NEWEST, ticks: int = 40) -> Told:
        ours = {"NVML_STANDIN": script, "LD_LIBRARY_PATH": str(library(driver)), "PYTHONPATH": str(ROOT)}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")} | ours
        command = [sys.executable, "-m", "tests.capture.nvml_standin.child", str(ticks), *targets]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S)
        assert done.returncode == 0, done.stderr
        told: Told = json.loads(done.stdout)
        return told

    return run


def known(device: Told, column: str) -> list[float]:
    return [value for value in device[column] if value is not None]


def test_every_reading_comes_through_the_real_structures(sample: Sample) -> None:
    told = sample("processes=3")
    (device,) = told["devices"]
    assert (told["status"], told["reason"], device["status"], device["notes"]) == ("stopped", None, "stopped", [])
    assert (device["device"], device["name"], device["driver"]) == (CARD, "NVIDIA H100 80GB HBM3", "580.65.06")
    everywhere = {"sm_mhz": 1755, "memory_mhz": 2619, "temperature_c": 61, "event_reasons": 4, "power_w": 650.0}
    everywhere |= {"util_gpu": 97, "util_memory": 40, "memory_used_bytes": 8 << 30}
    everywhere |= {"sm_active": 91.0, "tensor_active": 40.0}
    assert {name: set(known(device, name)) for name in everywhere} == {n: {v} for n, v in everywhere.items()}
    once = {"max_sm_mhz": 1980, "power_limit_w": 700.0, "default_power_limit_w": 700.0, "memory_total_bytes": 80 << 30}
    once |= {"pcie_gen": 5, "pcie_gen_max": 5, "pcie_width": 16, "pcie_width_max": 16, "processes": 3}
    assert {name: device[name] for name in once} == once


def test_a_metric_with_an_error_of_its_own_is_missing_and_not_zero(sample: Sample) -> None:
    (device,) = sample()["devices"]
    assert known(device, "dram_active") == []


def test_what_was_opened_is_closed_and_what_was_allocated_is_freed(sample: Sample) -> None:
    told = sample("gpus=2")
    assert (told["calls"]["nvmlInitWithFlags"], told["calls"]["nvmlShutdown"], told["buffers"]) == (1, 1, 0)


def test_no_driver_is_told_from_a_driver_that_does_not_start(sample: Sample) -> None:
    told = sample("nvmlInitWithFlags=9")
    assert told["status"] == "unavailable"
    assert told["reason"] == "the NVIDIA kernel module is not loaded (NVMLError_DriverNotLoaded)"


@pytest.mark.parametrize(
    ("driver", "lacking"),
    [
        (560, set()),
        (550, {"temperature: newer name"}),
        (530, {"temperature: newer name", "event reasons: newer name", "PCIe counters"}),
        (520, {"temperature: newer name", "event reasons: newer name", "PCIe counters", "instant power"}),
        (510, {"temperature: newer name", "event reasons: newer name", "PCIe counters", "instant power", "GPM"}),
        (470, {"temperature: newer name", "event reasons: newer name", "PCIe counters", "instant power", "GPM"}),
        (
            440,
            {
                "temperature: newer name",
                "event reasons: newer name",
                "PCIe counters",
                "instant power",
                "GPM",
                "processes",
            },
        ),
    ],
)
def test_an_older_driver_loses_only_what_it_does_not_have(sample: Sample, driver: int, lacking: set[str]) -> None:
    told = sample(driver=driver)
    (device,) = told["devices"]
    assert (told["status"], device["driver"]) == ("stopped", f"{driver}.65.06")
    assert set(known(device, "temperature_c")) == {62 if "temperature: newer name" in lacking else 61}
    assert set(known(device, "event_reasons")) == {0x20 if "event reasons: newer name" in lacking else 0x4}
    assert set(known(device, "power_w")) == {640.0 if "instant power" in lacking else 650.0}
    assert bool(known(device, "pcie_rx_bytes")) == ("PCIe counters" not in lacking)
    assert bool(known(device, "tensor_active")) == ("GPM" not in lacking)
    assert device["processes"] == (None if "processes" in lacking else 1)
    assert any("tensor-core activity is not available" in note for note in device["notes"]) == ("GPM" in lacking)
    assert any("1 s average" in note for note in device["notes"]) == ("instant power" in lacking)
    refused = ["processes: not readable (NVMLError_FunctionNotFound)"] if "processes" in lacking else []
    assert [note for note in device["notes"] if "not readable" in note] == refused


def test_a_mig_instance_is_read_through_its_card(sample: Sample) -> None:
    (device,) = sample("mig=1", INSTANCE)["devices"]
    assert (device["device"], device["memory_total_bytes"]) == (INSTANCE, 10 << 30)
    assert (set(known(device, "sm_mhz")), set(known(device, "tensor_active"))) == ({1755}, {40.0})
    assert any("MIG instance" in note for note in device["notes"])
    assert known(device, "util_gpu") == []
    assert "utilisation: not readable (NVMLError_NotSupported)" in device["notes"]


def test_a_card_in_mig_mode_is_said_to_be_shared(sample: Sample) -> None:
    (device,) = sample("mig=1", CARD)["devices"]
    assert any("MIG is enabled" in note for note in device["notes"])
    assert set(known(device, "sm_mhz")) == {1755}


def test_a_refused_reading_costs_its_column_and_is_not_asked_again(sample: Sample) -> None:
    told = sample("nvmlDeviceGetUtilizationRates=4")
    (device,) = told["devices"]
    assert (known(device, "util_gpu"), told["calls"]["nvmlDeviceGetUtilizationRates"]) == ([], 1)
    assert "utilisation: not readable (NVMLError_NoPermission)" in device["notes"]


def test_a_lost_gpu_keeps_its_rows_and_leaves_the_other_alone(sample: Sample) -> None:
    told = sample("gpus=2,only=1,device=15@60")
    other, lost = told["devices"]
    assert (told["status"], other["status"], lost["status"]) == ("stopped", "stopped", "lost")
    assert any("lost while sampling: NVMLError_GpuIsLost" in note for note in lost["notes"])
    assert 0 < len(known(lost, "sm_mhz")) < len(known(other, "sm_mhz"))


@pytest.mark.parametrize(
    ("code", "name"), [(15, "GpuIsLost"), (9, "DriverNotLoaded"), (999, "Unknown"), (4321, "NVMLError")]
)
def test_a_driver_that_dies_between_calls_ends_sampling_with_a_reason(sample: Sample, code: int, name: str) -> None:
    told = sample(f"device={code}@60", ticks=2_000)
    (device,) = told["devices"]
    assert (told["status"], device["status"]) == ("all-devices-lost", "lost")
    assert name in str(told["reason"])
    assert known(device, "sm_mhz")
    assert len(device["time_ns"]) < 2_000
    assert (told["calls"]["nvmlShutdown"], told["buffers"]) == (1, 0)


def test_a_failure_before_the_first_device_is_told_in_words(sample: Sample) -> None:
    told = sample("nvmlDeviceGetCount_v2=999")
    assert (told["status"], told["reason"]) == ("failed", "NVMLError_Unknown: Unknown Error")


@pytest.mark.parametrize(
    "script",
    [
        "nvmlInitWithFlags=hang",  # the driver is being loaded
        "nvmlDeviceGetName=hang",  # while the device is described
        "nvmlDeviceGetClockInfo=hang@20",  # while sampling
        "nvmlDeviceGetFieldValues=hang@42",  # at the end, when the counters are read again
        "nvmlGpmSampleFree=hang",
        "nvmlShutdown=hang",
    ],
)
def test_a_call_that_hangs_holds_up_neither_stop_nor_the_end_of_the_process(sample: Sample, script: str) -> None:
    told = sample(script)
    assert told["status"] == "hung"
    assert "did not return" in told["reason"]


def test_a_driver_that_hangs_while_sampling_leaves_what_was_read(sample: Sample) -> None:
    (device,) = sample("nvmlDeviceGetClockInfo=hang@20")["devices"]
    assert (device["status"], device["device"]) == ("hung", CARD)
    assert known(device, "sm_mhz")


def test_a_library_that_shuts_nvml_down_is_answered_once(sample: Sample) -> None:
    told = sample("nvmlDeviceGetUtilizationRates=steal@3")
    (device,) = told["devices"]
    assert (told["status"], told["calls"]["nvmlInitWithFlags"]) == ("stopped", 2)
    assert told["buffers"] == 2, "those of the first session: whoever shut NVML down may have freed them"
    assert any("another library shut NVML down" in note for note in device["notes"])
    assert len(device["time_ns"]) == 39


def test_counters_that_wrap_are_left_out(sample: Sample) -> None:
    wrapped, whole = (sample(script)["devices"][0] for script in ("wrap=1", ""))
    assert [name for name, _ in whole["throttle_s"]] == ["power", "thermal", "sync boost", "board limit", "reliability"]
    assert whole["throttle_s"][0][1] == pytest.approx(0.1)
    assert wrapped["pcie_rx_bytes"][0] > 2**63
    assert wrapped["pcie_rx_bytes"][-1] < 2**63
