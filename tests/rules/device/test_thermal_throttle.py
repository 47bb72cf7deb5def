"""thermal-throttle: fires on heat alone, prices products by the lost clock, and looks only at the busy device."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.facts import DeviceSamples
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.device.thermal_throttle import thermal_throttle
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.rules.sampling import PRODUCT_US, products, recorded_between, sampled_run

HOT = 0x20
CLOCKS: dict[str, Any] = {"sm_mhz": (1128.0,) * 20, "max_sm_mhz": 1410.0}


def test_products_take_less_at_the_full_clock() -> None:
    run = sampled_run(event_reasons=(HOT,) * 20, temperature_c=(88.0,) * 20, **CLOCKS)
    price = price_us(thermal_throttle, run)
    assert price.low_ns == close(PRODUCT_US * 0.1)
    assert price.mid_ns == price.high_ns == close(PRODUCT_US * 0.2)
    finding = found(thermal_throttle, run)
    assert finding.summary == "Heat lowers the clock 100 % of the time: mean 1,128 of 1,410 MHz, up to 88 C"
    assert {e.name: e.value for e in finding.evidence}["highest temperature"] == 88.0


@pytest.mark.parametrize("reason", [0x20, 0x40, 0x8])
def test_every_thermal_reason_counts(reason: int) -> None:
    reasons = (reason,) * 2 + (0,) * 18
    assert found(thermal_throttle, sampled_run(event_reasons=reasons, **CLOCKS)).evidence[0].value == 0.1


@pytest.mark.parametrize(
    "reasons",
    [(0,) * 20, (HOT,) + (0,) * 19, (0x4,) * 20, (0x88,) * 20],
    ids=["none", "once in twenty", "power cap", "power brake"],
)
def test_other_reasons_and_passing_events_are_not_heat(reasons: tuple[int, ...]) -> None:
    silent(thermal_throttle, sampled_run(event_reasons=reasons, **CLOCKS))


def test_the_drivers_counter_sees_what_samples_miss() -> None:
    counted = (("power", 1.9), ("thermal", 0.95))
    run = sampled_run(event_reasons=(0,) * 20, throttle_s=counted, **CLOCKS)
    assert found(thermal_throttle, run).evidence[0].value == pytest.approx(0.5)


def test_heat_while_idle_or_before_the_block_is_no_finding() -> None:
    idle: dict[str, Any] = {"event_reasons": (0,) * 10 + (HOT | 0x1,) * 10, "util_gpu": (99.0,) * 10 + (0.0,) * 10}
    silent(thermal_throttle, sampled_run(**idle, **CLOCKS))
    device = DeviceSamples(
        device="0",
        time_ns=tuple(i * 100_000_000 for i in range(20)),
        util_gpu=(99.0,) * 20,
        event_reasons=(HOT,) * 10 + (0,) * 10,
        **CLOCKS,
    )
    later = run_of(products(), samples=(device,), windows=recorded_between(1500, 2000), timed_steps_s=(0.25, 0.25))
    silent(thermal_throttle, later)
    earlier = run_of(products(), samples=(device,), windows=recorded_between(1500, 2000), timed_steps_s=(0.5, 0.5))
    assert found(thermal_throttle, earlier).evidence[0].value == pytest.approx(5 / 15)


def test_the_busiest_of_several_devices_is_judged() -> None:
    time = tuple(i * 100_000_000 for i in range(20))
    hot: dict[str, Any] = {"time_ns": time, "event_reasons": (HOT,) * 20, **CLOCKS}
    cool: dict[str, Any] = {"time_ns": time, "event_reasons": (0,) * 20, **CLOCKS}
    pair = (
        DeviceSamples(device="0", util_gpu=(60.0,) * 20, **hot),
        DeviceSamples(device="1", util_gpu=(99.0,) * 20, **cool),
    )
    silent(thermal_throttle, run_of(products(), samples=pair))


def test_without_enough_readings_it_cannot_judge() -> None:
    assert isinstance(thermal_throttle.judge(sampled_run(4, event_reasons=(HOT,) * 4)), Skip)
    assert isinstance(thermal_throttle.judge(sampled_run(**CLOCKS)), Skip)
    assert isinstance(thermal_throttle.judge(sampled_run(event_reasons=(HOT,) * 20, max_sm_mhz=1410.0)), Skip)
