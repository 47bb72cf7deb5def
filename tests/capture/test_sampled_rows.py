"""The rows of a sampled device: how long they stay even, which failures end a reading, and what they are differences of."""

from __future__ import annotations

from itertools import pairwise

import pynvml
import pytest

from mfu_doctor.capture.device.probes import MAX_FAILURES
from mfu_doctor.capture.device.sampled_device import MAX_ROWS, SampledDevice
from tests.capture.fake_nvml import FakeNvml, Pace
from tests.capture.test_sampler import GPM, sample


def test_the_rows_of_a_long_run_are_evenly_spread() -> None:
    """Means over the rows would otherwise be means of the run's end."""
    device, pace = SampledDevice(0), Pace(1)
    device.open(FakeNvml())
    for _ in range(3 * MAX_ROWS):
        device.sample(pace.clock)
        pace.now += 100_000_000
    gaps = [b - a for a, b in pairwise(device.result("stopped", ()).time_ns)]
    assert max(gaps) <= 2.1 * min(gaps)


def test_a_reading_that_fails_now_and_then_is_never_given_up() -> None:
    """Only failures in a row mean that it will not come back."""
    nvml = FakeNvml()
    name = "nvmlDeviceGetCurrentClocksEventReasons"
    nvml.at = {(name, n): pynvml.NVMLError_Timeout for n in range(2, 40, 3)}
    assert len(nvml.at) > 2 * MAX_FAILURES
    (device,), _, _ = sample(nvml)
    assert device.event_reasons[-3:].count(4) == 2
    assert nvml.calls[name] == 40


@pytest.mark.parametrize("mig", [False, True])
def test_activity_is_the_difference_of_a_sample_and_the_one_before_it(mig: bool) -> None:
    nvml = FakeNvml(gpm=GPM, mig=mig)
    sample(nvml, targets=("0",))
    assert len(nvml.compared) >= 10
    assert nvml.compared == [(n, n + 1) for n in range(1, len(nvml.compared) + 1)]


def test_a_device_number_that_may_name_another_card_is_doubted_in_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA numbers the fastest card first and NVML the first slot; until CUDA is asked, nobody knows which card was read."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    nvml = FakeNvml(2)
    nvml.names = ["Tesla T4", "NVIDIA H100 80GB HBM3"]
    (doubted,), _, _ = sample(nvml, targets=None)
    assert any("can be of another card" in note for note in doubted.notes)
    (sure,), _, _ = sample(FakeNvml(2), targets=None)
    assert not any("another card" in note for note in sure.notes)
