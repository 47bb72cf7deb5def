"""The device sampler against every failure of a driver: it never raises, never waits long, loses one column at most."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from itertools import pairwise

import pynvml
import pytest

from mfu_doctor.capture.device.nvml import field_values
from mfu_doctor.capture.device.probes import CALLS_PER_TICK
from mfu_doctor.capture.device.sampled_device import COLUMNS, MAX_ROWS, SampledDevice
from mfu_doctor.capture.device.sampler import DeviceSampler
from mfu_doctor.capture.patience import joined
from mfu_doctor.facts import DeviceSamples
from tests.capture.fake_nvml import FIELD_POWER, FIELD_RX, THROTTLE_POWER, THROTTLE_THERMAL, FakeNvml, Pace
from tests.patience import LONGEST_S

GPM = {2: 91.0, 5: 47.5, 10: 63.0}


def sample(
    nvml: FakeNvml, *, ticks: int = 40, pace: Pace | None = None, targets: tuple[int | str, ...] | None = (0,)
) -> tuple[tuple[DeviceSamples, ...], str, DeviceSampler]:
    pace = pace or Pace(ticks)
    sampler = DeviceSampler(nvml, clock=pace.clock, sleep=pace.sleep, targets=targets)
    sampler.start()
    assert sampler._thread is not None
    sampler._thread.join(30)
    samples, status = sampler.stop()
    return samples, status, sampler


def last(values: tuple[float | int | None, ...]) -> float | int | None:
    known = [value for value in values if value is not None]
    return known[-1] if known else None


def binding_error(name: str) -> type[Exception]:
    """A class of errors that older bindings lack: theirs or, since the sampler goes by the name, one of this name."""
    found: type[Exception] = getattr(pynvml, name, type(name, (Exception,), {}))
    return found


def test_a_healthy_device_gives_every_column_and_its_description() -> None:
    nvml = FakeNvml(gpm=GPM)
    (device,), status, sampler = sample(nvml)
    assert (status, device.status, sampler.reason) == ("stopped", "stopped", None)
    assert (device.device, device.name, device.driver) == ("GPU-0", "NVIDIA H100 80GB HBM3", "580.65.06")
    assert len(device.time_ns) == 40
    assert all(len(getattr(device, name)) == 40 for name in COLUMNS)
    readings = {name: last(getattr(device, name)) for name in COLUMNS}
    assert readings == {
        "util_gpu": 97, "util_memory": 40, "sm_mhz": 1755, "memory_mhz": 2619, "power_w": 650.0, "temperature_c": 61,
        "memory_used_bytes": 8 << 30, "event_reasons": 4, "sm_active": 91.0, "tensor_active": 47.5, "dram_active": 63.0,
        "pcie_rx_bytes": 2_000, "pcie_tx_bytes": 1_000,
    }  # fmt: skip
    assert (device.max_sm_mhz, device.power_limit_w, device.default_power_limit_w) == (1980, 700.0, 700.0)
    assert (device.memory_total_bytes, device.processes) == (80 << 30, 1)
    assert (device.pcie_gen, device.pcie_gen_max, device.pcie_width, device.pcie_width_max) == (5, 5, 16, 16)


def test_rows_are_stamped_with_the_clock_in_order_at_the_asked_rate() -> None:
    (device,), _, _ = sample(FakeNvml())
    steps = {round((b - a) / 1e6) for a, b in pairwise(device.time_ns)}
    assert steps == {100}


def test_a_tick_makes_at_most_five_calls_into_the_driver() -> None:
    nvml = FakeNvml(gpm=GPM)
    pace, marks = Pace(60), []
    real_sleep = pace.sleep

    def sleep(seconds: float) -> bool:
        marks.append(len(nvml.log))
        return real_sleep(seconds)

    sampler = DeviceSampler(nvml, clock=pace.clock, sleep=sleep, targets=(0,))
    sampler.start()
    assert sampler._thread is not None
    sampler._thread.join(30)
    per_tick = [b - a for a, b in pairwise(marks)]
    # The fake counts calls of pynvml; the process list is two calls of C.
    listed = nvml.calls["nvmlDeviceGetComputeRunningProcesses"]
    assert max(per_tick) <= CALLS_PER_TICK
    assert listed >= 1


def test_gpm_samples_are_taken_further_apart_than_the_driver_refreshes_them() -> None:
    (device,), _, _ = sample(FakeNvml(gpm=GPM))
    times = [t for t, value in zip(device.time_ns, device.tensor_active, strict=True) if value is not None]
    assert len(times) >= 10
    assert min(b - a for a, b in pairwise(times)) > 100_000_000


def test_gpm_buffers_are_freed_and_nvml_is_shut_down() -> None:
    nvml = FakeNvml(gpm=GPM)
    sample(nvml)
    assert nvml.buffers == []
    assert nvml.calls["nvmlInit"] == nvml.calls["nvmlShutdown"] == 1


def test_a_gpu_without_gpm_says_why_there_is_no_tensor_activity() -> None:
    (device,), _, _ = sample(FakeNvml())
    assert last(device.tensor_active) is None
    assert any("Hopper" in note for note in device.notes)


def test_a_metric_that_gpm_does_not_know_is_missing_and_not_zero() -> None:
    (device,), _, _ = sample(FakeNvml(gpm={2: 91.0, 10: float("nan")}))
    assert (last(device.sm_active), last(device.tensor_active), last(device.dram_active)) == (91.0, None, None)


def test_throttled_seconds_come_from_the_counters_at_both_ends() -> None:
    nvml = FakeNvml()
    nvml.advance = {THROTTLE_POWER: 1_500_000_000}
    (device,), _, _ = sample(nvml)
    assert dict(device.throttle_s) == {"power": 1.5, "thermal": 0.0}


def test_a_counter_that_ran_backwards_is_left_out() -> None:
    nvml = FakeNvml()
    nvml.fields[THROTTLE_THERMAL] = 5_000_000_000
    nvml.advance = {THROTTLE_THERMAL: -1_000_000_000}
    (device,), _, _ = sample(nvml)
    assert dict(device.throttle_s) == {"power": 0.0}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (pynvml.NVMLError_LibraryNotFound, "no NVIDIA driver"),
        (pynvml.NVMLError_DriverNotLoaded, "kernel module"),
        (pynvml.NVMLError_LibRmVersionMismatch, "without a restart"),
        (pynvml.NVMLError_OperatingSystem, "container"),
        (pynvml.NVMLError_NoPermission, "permission"),
        (pynvml.NVMLError_Unknown, "NVMLError_Unknown"),
    ],
)
def test_nvml_that_does_not_start_is_unavailable_with_a_reason(error: type[Exception], words: str) -> None:
    nvml = FakeNvml()
    nvml.errors["nvmlInit"] = error
    samples, status, sampler = sample(nvml)
    assert (samples, status) == ((), "unavailable")
    assert words in str(sampler.reason)


def test_a_missing_pynvml_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    sampler = DeviceSampler()
    sampler.start()
    samples, status = sampler.stop(timeout=LONGEST_S)
    assert (samples, status) == ((), "unavailable")
    assert "nvidia-ml-py is not installed" in str(sampler.reason)


@pytest.mark.parametrize(
    "error",
    [
        pynvml.NVMLError_NotSupported,
        pynvml.NVMLError_NoPermission,
        pynvml.NVMLError_FunctionNotFound,
        pynvml.NVMLError_InvalidArgument,
        pynvml.NVMLError_ArgumentVersionMismatch,
        binding_error("NVMLLibraryMismatchError"),
    ],
)
def test_a_refused_reading_costs_one_column_and_is_not_asked_again(error: type[Exception]) -> None:
    nvml = FakeNvml()
    nvml.errors["nvmlDeviceGetUtilizationRates"] = error
    (device,), status, _ = sample(nvml)
    assert status == "stopped"
    assert last(device.util_gpu) is None
    assert last(device.sm_mhz) == 1755
    assert nvml.calls["nvmlDeviceGetUtilizationRates"] == 1
    assert any("utilisation" in note and error.__name__ in note for note in device.notes)


def test_an_old_binding_without_a_function_loses_only_that_reading() -> None:
    nvml = FakeNvml(gpm=GPM)
    nvml.missing = {"nvmlGpmQueryDeviceSupport", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetFieldValues"}
    (device,), status, _ = sample(nvml)
    assert (status, last(device.sm_mhz), last(device.util_gpu)) == ("stopped", 1755, 97)
    assert (last(device.tensor_active), last(device.memory_used_bytes), device.throttle_s) == (None, None, ())
    assert last(device.power_w) == 640.0  # the older call
    assert any("AttributeError" in note for note in device.notes)


@pytest.mark.parametrize("how", ["missing in the binding", "missing in the driver"])
def test_older_names_are_used_where_the_newer_ones_are_missing(how: str) -> None:
    nvml = FakeNvml()
    newer = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetTemperatureV")
    if how == "missing in the binding":
        nvml.missing = set(newer)
    else:
        nvml.errors = dict.fromkeys(newer, pynvml.NVMLError_FunctionNotFound)
    (device,), _, _ = sample(nvml)
    assert (last(device.event_reasons), last(device.temperature_c)) == (0x20, 62)


def test_a_field_that_the_device_lacks_is_missing_and_power_falls_back() -> None:
    nvml = FakeNvml()
    del nvml.fields[FIELD_POWER], nvml.fields[FIELD_RX]
    (device,), _, _ = sample(nvml)
    assert (last(device.power_w), last(device.pcie_rx_bytes), last(device.pcie_tx_bytes)) == (640.0, None, 1_000)
    assert any("1 s average" in note for note in device.notes)


@pytest.mark.parametrize(
    "error",
    [
        pynvml.NVMLError_NotFound,
        pynvml.NVMLError_NoData,
        pynvml.NVMLError_NotReady,
        pynvml.NVMLError_Timeout,
        pynvml.NVMLError_InUse,
        pynvml.NVMLError_Unknown,
    ],
)
def test_a_passing_failure_skips_the_reading_and_five_in_a_row_end_it(error: type[Exception]) -> None:
    nvml = FakeNvml()
    nvml.at = {("nvmlDeviceGetCurrentClocksEventReasons", n): error for n in (2, 3)}
    nvml.errors["nvmlDeviceGetUtilizationRates"] = error
    (device,), _, _ = sample(nvml)
    assert device.event_reasons[:5] == (4, None, None, 4, 4)
    assert nvml.calls["nvmlDeviceGetUtilizationRates"] == 5
    assert last(device.util_gpu) is None


@pytest.mark.parametrize(
    "error", [pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_ResetRequired, binding_error("NVMLError_GpuNotFound")]
)
def test_a_lost_device_keeps_what_was_read(error: type[Exception]) -> None:
    nvml = FakeNvml()
    nvml.at[("nvmlDeviceGetClockInfo", 6)] = error
    (device,), status, sampler = sample(nvml)
    assert (status, device.status) == ("all-devices-lost", "lost")
    assert len(device.time_ns) >= 4
    assert error.__name__ in str(sampler.reason)


def test_one_lost_device_of_two_does_not_end_the_other() -> None:
    nvml = FakeNvml(gpus=2)
    nvml.at[("nvmlDeviceGetCurrentClocksEventReasons", 3)] = pynvml.NVMLError_GpuIsLost
    (lost, kept), status, _ = sample(nvml, targets=(0, 1))
    assert (status, lost.status, kept.status) == ("stopped", "lost", "stopped")
    assert len(lost.time_ns) == 1
    assert len(kept.time_ns) == 38


def test_two_devices_take_turns() -> None:
    samples, _, _ = sample(FakeNvml(gpus=2), targets=None)
    assert [device.device for device in samples] == ["GPU-0", "GPU-1"]
    assert [len(device.time_ns) for device in samples] == [20, 20]


def test_a_bad_handle_is_reported_and_the_other_device_is_sampled() -> None:
    (good, bad), status, _ = sample(FakeNvml(), targets=(0, 7))
    assert (status, good.status, bad.status) == ("stopped", "stopped", "unavailable")
    assert bad.time_ns == ()
    assert any("NVMLError_InvalidArgument" in note for note in bad.notes)


@pytest.mark.parametrize("targets", [None, (3,)])
def test_no_usable_device_is_said(targets: tuple[int, ...] | None) -> None:
    _, status, _ = sample(FakeNvml(gpus=0), targets=targets)
    assert status == "no-devices"


def test_nvml_shut_down_by_somebody_else_is_started_again_once() -> None:
    nvml = FakeNvml(gpm=GPM)
    nvml.at[("nvmlDeviceGetClockInfo", 10)] = pynvml.NVMLError_Uninitialized
    (device,), status, _ = sample(nvml)
    assert (status, nvml.calls["nvmlInit"]) == ("stopped", 2)
    assert len(device.time_ns) == 39
    assert any("shut NVML down" in note for note in device.notes)


def test_nvml_shut_down_twice_ends_sampling() -> None:
    nvml = FakeNvml()
    nvml.at = {("nvmlDeviceGetClockInfo", n): pynvml.NVMLError_Uninitialized for n in (10, 20)}
    (device,), status, _ = sample(nvml)
    assert (status, nvml.calls["nvmlInit"]) == ("failed", 2)
    assert 0 < len(device.time_ns) < 40


def let_go(nvml: FakeNvml, sampler: DeviceSampler) -> None:
    """The driver returns: no thread is left for the tests that follow."""
    nvml.release.set()
    assert sampler._thread is not None
    assert joined(sampler._thread, LONGEST_S)


def test_a_hung_driver_costs_stop_its_timeout_and_keeps_the_rows() -> None:
    nvml, pace = FakeNvml(), Pace(1_000_000)

    def sleep(seconds: float) -> bool:
        if len(pace.sleeps) == 5:
            nvml.hang.add("nvmlDeviceGetClockInfo")
        return pace.sleep(seconds)

    sampler = DeviceSampler(nvml, clock=pace.clock, sleep=sleep, targets=(0,))
    sampler.start()
    assert nvml.hanging.wait(LONGEST_S)
    (device,), status = sampler.stop(timeout=0.01)
    assert (status, device.status) == ("hung", "hung")
    assert len(device.time_ns) == 6
    assert "did not return" in str(sampler.reason)
    let_go(nvml, sampler)


def test_a_driver_that_hangs_while_starting_is_hung() -> None:
    nvml = FakeNvml()
    nvml.hang.add("nvmlInit")
    sampler = DeviceSampler(nvml)
    sampler.start()
    assert nvml.hanging.wait(LONGEST_S)
    assert sampler.stop(timeout=0.01) == ((), "hung")
    let_go(nvml, sampler)


def test_slow_calls_are_asked_less_often() -> None:
    pace = Pace(10, read_cost_ns=100_000_000)
    (device,), _, _ = sample(FakeNvml(), pace=pace)
    assert any("sampling interval was increased" in note for note in device.notes)
    # A look at the clock costs 100 ms here, so a tick (four looks) takes 300 ms and may use half of its period.
    assert all(300 <= (b - a) / 1e6 <= 1000 for a, b in pairwise(device.time_ns))
    assert len(device.time_ns) == 10


def test_a_wall_clock_set_back_does_not_stop_sampling() -> None:
    pace = Pace(20)
    real_sleep = pace.sleep

    def sleep(seconds: float) -> bool:
        if len(pace.sleeps) == 10:
            pace.now -= 3_600_000_000_000
        return real_sleep(seconds)

    sampler = DeviceSampler(FakeNvml(), clock=pace.clock, sleep=sleep, targets=(0,))
    sampler.start()
    assert sampler._thread is not None
    sampler._thread.join(30)
    (device,), status = sampler.stop()
    assert (status, len(device.time_ns)) == ("stopped", 20)
    assert max(pace.sleeps) <= 0.2


def test_the_link_is_read_only_under_load() -> None:
    nvml = FakeNvml()
    nvml.utilization = 3
    (device,), _, _ = sample(nvml)
    assert (device.pcie_gen, device.pcie_gen_max) == (None, 5)
    assert nvml.calls["nvmlDeviceGetCurrPcieLinkGeneration"] == 0


def test_a_mig_instance_is_sampled_through_its_card() -> None:
    nvml = FakeNvml(gpm=GPM, mig=True)
    nvml.errors["nvmlDeviceGetUtilizationRates"] = pynvml.NVMLError_NotSupported
    (device,), status, _ = sample(nvml, targets=("0",))  # torch gives UUIDs without a prefix
    assert (status, device.device, device.memory_total_bytes) == ("stopped", "MIG-0", 10 << 30)
    assert (last(device.sm_mhz), last(device.tensor_active)) == (1755, 47.5)
    assert any("whole card" in note for note in device.notes)
    assert nvml.calls["nvmlGpmMigSampleGet"] > 0


def test_a_uuid_without_its_prefix_finds_the_gpu() -> None:
    (device,), _, _ = sample(FakeNvml(gpus=2), targets=("1",))
    assert device.device == "GPU-1"


def test_stop_without_start_and_start_twice_are_harmless() -> None:
    assert DeviceSampler(FakeNvml()).stop() == ((), "not started")
    nvml, pace = FakeNvml(), Pace(3)
    sampler = DeviceSampler(nvml, clock=pace.clock, sleep=pace.sleep, targets=(0,))
    sampler.start()
    sampler.start()
    first = sampler.stop(30)
    assert sampler.stop() == first
    assert nvml.calls["nvmlInit"] == 1


def test_a_forked_child_leaves_nvml_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml, pace = FakeNvml(), Pace(3)
    sampler = DeviceSampler(nvml, clock=pace.clock, sleep=pace.sleep, targets=(0,))
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    sampler.start()
    assert sampler.stop() == ((), "not started")
    assert not nvml.calls


def test_a_long_run_is_thinned_and_keeps_its_whole_span() -> None:
    device, pace = SampledDevice(0), Pace(1)
    device.open(FakeNvml())
    for _ in range(3 * MAX_ROWS):
        device.sample(pace.clock)
        pace.now += 100_000_000
    rows = device.result("stopped", ()).time_ns
    assert MAX_ROWS // 2 <= len(rows) <= MAX_ROWS
    assert rows[0] < pace.now - 0.99 * 3 * MAX_ROWS * 1e8
    assert rows[-1] > pace.now - 1e9


def test_field_values_are_taken_from_the_member_of_their_type() -> None:
    values = FakeNvml().nvmlDeviceGetFieldValues(("GPU", 0), [FIELD_POWER])
    values[0].valueType, values[0].value.dVal = 0, 1.5

    class OneField:
        def nvmlDeviceGetFieldValues(self, handle: object, ids: list[int]) -> object:  # noqa: N802
            return values

    assert field_values(OneField(), None, (FIELD_POWER,)) == {FIELD_POWER: 1.5}


def sample_own(
    nvml: FakeNvml, own: Callable[[], tuple[str, ...] | None], *, ticks: int = 20
) -> tuple[tuple[DeviceSamples, ...], str, DeviceSampler]:
    """Sample without targets, told by `own` which devices the process uses."""
    pace = Pace(ticks)
    sampler = DeviceSampler(nvml, clock=pace.clock, sleep=pace.sleep, own=own)
    sampler.start()
    assert sampler._thread is not None
    sampler._thread.join(30)
    samples, status = sampler.stop()
    return samples, status, sampler


def test_a_rank_samples_the_gpu_that_cuda_says_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two visible GPUs the rank uses the second: the first must be in no row, and is never even asked."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml = FakeNvml(2)
    samples, status, _ = sample_own(nvml, lambda: ("1",))
    assert ([device.device for device in samples], status) == (["GPU-1"], "stopped")
    assert len(samples[0].time_ns) == 20
    assert nvml.calls["nvmlGpmQueryDeviceSupport"] == 1  # asked once for each opened device


def test_cuda_that_is_initialised_later_narrows_the_devices_at_the_next_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    answers = iter([None] * 11 + [("1",)] * 100)
    nvml = FakeNvml(2, gpm=GPM)
    samples, status, _ = sample_own(nvml, lambda: next(answers))
    assert ([device.device for device in samples], status) == (["GPU-1"], "stopped")
    # Before, the two GPUs took turns; what was read of the right one is kept, and then it has every tick.
    assert 15 <= len(samples[0].time_ns) < 20
    assert nvml.buffers == []  # those of the GPU that was left are freed too


def test_until_cuda_says_which_gpu_the_visible_ones_are_sampled_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    samples, _, _ = sample_own(FakeNvml(2), lambda: None)
    assert [device.device for device in samples] == ["GPU-0", "GPU-1"]
    assert all("CUDA was not initialized" in " ".join(device.notes) for device in samples)


@pytest.mark.parametrize("late", [False, True])
def test_a_gpu_that_nvml_does_not_know_gives_a_reason_and_no_other_gpu(
    monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    answers = iter([None] * (5 if late else 0) + [("7",)] * 100)
    nvml = FakeNvml(2)
    nvml.errors["nvmlDeviceGetHandleByUUID"] = pynvml.NVMLError_NotFound
    samples, status, sampler = sample_own(nvml, lambda: next(answers))
    assert status == "no-devices"
    assert sampler.reason == "NVML does not know the GPU of this process (7)"
    assert [(device.device, device.time_ns, device.status) for device in samples] == [("7", (), "unavailable")]
    assert "device 7 was not found" in samples[0].notes[0]


def test_a_mig_instance_of_the_environment_is_kept_where_cuda_names_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA may give the card's UUID for an instance; the whole card's memory would be somebody else's too."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-0")
    nvml = FakeNvml(mig=True)
    (device,), _, _ = sample_own(nvml, lambda: ("GPU-0",))
    assert (device.device, device.memory_total_bytes) == ("MIG-0", 10 << 30)


def test_a_process_that_begins_to_use_another_gpu_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    answers = iter([("0",)] * 8 + [("1", "0")] * 100)
    samples, _, _ = sample_own(FakeNvml(3), lambda: next(answers))
    assert [device.device for device in samples] == ["GPU-1", "GPU-0"]
    assert all(device.time_ns for device in samples)
