"""shared-device: more than one process on the device is told without a price."""

from __future__ import annotations

import pytest

from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.device.shared_device import shared_device
from tests.rules.judging import found, silent
from tests.rules.sampling import sampled_run


@pytest.mark.parametrize(("processes", "others"), [(2, "1 other process"), (4, "3 other processes")])
def test_other_processes_are_told_without_a_price(processes: int, others: str) -> None:
    finding = found(shared_device, sampled_run(processes=processes))
    assert finding.summary.endswith(others)
    assert finding.change is None
    assert finding.confidence == "measured"
    assert finding.evidence[0].value == processes


@pytest.mark.parametrize("processes", [0, 1])
def test_a_device_of_its_own_is_no_finding(processes: int) -> None:
    silent(shared_device, sampled_run(processes=processes))


def test_uncounted_processes_cannot_be_judged() -> None:
    assert isinstance(shared_device.judge(sampled_run()), Skip)
