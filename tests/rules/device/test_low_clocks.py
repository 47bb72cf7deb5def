"""low-clocks: fires where a setting alone holds the clock below 90 % of the highest, and prices the lost clock."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.device.low_clocks import low_clocks
from tests.rules.judging import close, found, price_us, silent
from tests.rules.sampling import PRODUCT_US, sampled_run

CLOCKS: dict[str, Any] = {"sm_mhz": (1128.0,) * 20, "max_sm_mhz": 1410.0}


def test_a_fixed_clock_gains_what_it_lost() -> None:
    run = sampled_run(event_reasons=(0x2,) * 20, **CLOCKS)
    price = price_us(low_clocks, run)
    assert price.low_ns == close(PRODUCT_US * 0.1)
    assert price.mid_ns == price.high_ns == close(PRODUCT_US * 0.2)
    assert found(low_clocks, run).summary == "SM clock is set below its maximum: mean 1,128 of 1,410 MHz (80 %)"


def test_the_gain_ends_at_the_clock_of_the_stated_peak() -> None:
    """An A100 is specified at 1410 MHz: a card that could go higher is not promised to get there."""
    run = sampled_run(event_reasons=(0x2,) * 20, sm_mhz=(1269.0,) * 20, max_sm_mhz=1600.0)
    assert price_us(low_clocks, run).high_ns == close(PRODUCT_US * 0.1)


def test_idle_clocks_do_not_count() -> None:
    busy, idle = (0x2,) * 10, (0x3,) * 10
    clocks = (1410.0,) * 10 + (300.0,) * 10
    run = sampled_run(event_reasons=busy + idle, sm_mhz=clocks, max_sm_mhz=1410.0, util_gpu=(99.0,) * 10 + (0.0,) * 10)
    silent(low_clocks, run)


@pytest.mark.parametrize("reasons", [0x0, 0x4, 0x20, 0x6], ids=["no reason", "power", "heat", "setting and power"])
def test_low_clocks_with_another_reason_belong_to_other_rules(reasons: int) -> None:
    silent(low_clocks, sampled_run(event_reasons=(reasons,) * 20, **CLOCKS))


def test_a_clock_near_the_highest_is_no_finding() -> None:
    silent(low_clocks, sampled_run(event_reasons=(0x2,) * 20, sm_mhz=(1290.0,) * 20, max_sm_mhz=1410.0))


def test_without_enough_readings_it_cannot_judge() -> None:
    assert isinstance(low_clocks.judge(sampled_run(4, event_reasons=(0x2,) * 4, max_sm_mhz=1410.0)), Skip)
    assert isinstance(low_clocks.judge(sampled_run(event_reasons=(0x2,) * 20)), Skip)
    assert isinstance(low_clocks.judge(sampled_run(**CLOCKS)), Skip)
