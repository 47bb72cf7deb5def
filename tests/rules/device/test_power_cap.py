"""power-cap: a fault where somebody capped the card or the hardware brakes; at the default limit it is normal and withheld."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.api.diagnose import diagnose
from mfu_doctor.diagnosis.rule_runner import examine
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.device.power_cap import power_cap
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.rules.sampling import PRODUCT_US, products, sampled_run

CLOCKS: dict[str, Any] = {"sm_mhz": (1269.0,) * 20, "max_sm_mhz": 1410.0}
CAPPED: dict[str, Any] = {"power_limit_w": 300.0, "default_power_limit_w": 400.0}
DEFAULT: dict[str, Any] = {"power_limit_w": 400.0, "default_power_limit_w": 400.0}


def test_a_capped_card_gains_its_clock_back() -> None:
    run = sampled_run(event_reasons=(0x4,) * 20, power_w=(299.0,) * 20, **CLOCKS, **CAPPED)
    price = price_us(power_cap, run)
    assert price.low_ns == close(PRODUCT_US * 0.05)
    assert price.mid_ns == price.high_ns == close(PRODUCT_US * 0.1)
    finding = found(power_cap, run)
    assert finding.withhold is None
    assert finding.fix == "sudo nvidia-smi -i 0 -pl 400"
    assert {e.name: e.value for e in finding.evidence}["clock lost"] == pytest.approx(0.1)


def test_at_the_default_limit_it_is_withheld_with_the_lost_clock() -> None:
    finding = found(power_cap, sampled_run(event_reasons=(0x4,) * 20, **CLOCKS, **DEFAULT))
    assert finding.withhold == "the power limit is the default (400 W); the mean clock is 1,269 of 1,410 MHz"


def test_unknown_limits_are_said_to_be_unknown() -> None:
    finding = found(power_cap, sampled_run(event_reasons=(0x4,) * 20, **CLOCKS))
    assert finding.withhold is not None
    assert "is unknown" in finding.withhold


def test_the_power_brake_is_a_fault_at_any_limit() -> None:
    finding = found(power_cap, sampled_run(event_reasons=(0x88,) * 20, **CLOCKS, **DEFAULT))
    assert finding.withhold is None
    assert "power brake" in finding.summary


def test_a_clock_lost_to_heat_and_power_is_counted_once() -> None:
    run = sampled_run(event_reasons=(0x24,) * 20, **CLOCKS, **CAPPED)
    told = {d.rule: d for d in diagnose(run.recorded, select=["DV"]).diagnoses}
    assert told["power-cap"].explained_by == "thermal-throttle"
    assert told["thermal-throttle"].explains == ("power-cap",)


@pytest.mark.parametrize("reasons", [(0,) * 20, (0x4,) + (0,) * 19, (0x20,) * 20, (0x2,) * 20])
def test_other_reasons_and_passing_events_are_silent(reasons: tuple[int, ...]) -> None:
    silent(power_cap, sampled_run(event_reasons=reasons, **CLOCKS, **CAPPED))


def test_without_samples_the_sampler_says_why() -> None:
    run = run_of(products(), sampler_status="unavailable: no NVIDIA driver on this machine")
    (skipped,) = examine(run, [power_cap])
    assert skipped.outcome == Skip("no GPU samples: no NVIDIA driver on this machine")


def test_what_samples_no_amd_gpu_is_not_advised_for_one() -> None:
    """ "record on a machine with an NVIDIA driver" was said of an MI300X."""
    drawn = products()
    drawn.header["deviceProperties"][0]["name"] = "AMD Instinct MI300X"
    (skipped,) = examine(run_of(drawn), [power_cap])
    assert skipped.outcome == Skip("no GPU samples: mfu_doctor.profile() takes them of NVIDIA GPUs only")


def test_without_enough_readings_it_cannot_judge() -> None:
    assert isinstance(power_cap.judge(sampled_run(4, event_reasons=(0x4,) * 4, **CAPPED)), Skip)
    assert isinstance(power_cap.judge(sampled_run(**CLOCKS, **CAPPED)), Skip)
    assert isinstance(power_cap.judge(sampled_run(event_reasons=(0x4,) * 20, max_sm_mhz=1410.0)), Skip)
