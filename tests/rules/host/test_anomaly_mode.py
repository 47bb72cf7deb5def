"""anomaly-mode: NaN searches and stack traces go, each as long as this run shows; a setting between steps hides neither."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import PrecisionFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.host.anomaly_mode import anomaly_mode
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def loop(*, on: bool | None, deep: int = 0, searched: bool = True) -> Run:
    """Per step 10 views of 52 us and 10 products of 150; 10 gradients searched in 30 us each; `deep` us more for half of them.

    Each view runs another one inside, which adds no node, and carries the next sequence number.
    """
    drawn, number = Timeline(device=None), 0
    for _ in range(5):
        with drawn.step():
            for i in range(10):
                more = deep if i >= 5 else 0
                with drawn.span("aten::t", "cpu_op", sequence=number):
                    drawn.python(52 + more)
                    drawn.op("aten::transpose", host=1, sequence=number + 1)
                drawn.op(
                    "aten::mm", host=150 + more, sequence=number + 1, dims=[[8, 8], [8, 8]], types=["float", "float"]
                )
                number += 2
            for _ in range(10):
                with drawn.span("autograd::engine::evaluate_function: MmBackward0", "cpu_op"):
                    with drawn.span("MmBackward0", "cpu_op"):
                        drawn.op("aten::mm", host=200)
                        drawn.op("aten::ne", host=7)
                    for name in ("aten::isnan", "aten::any") if searched else ():
                        with drawn.span(name, "cpu_op"):
                            drawn.op("aten::fill_", host=15)
    return run_of(drawn) if on is None else run_of(drawn, precision=PrecisionFacts(anomaly_mode=on))


def test_searches_and_stacks_are_what_it_costs() -> None:
    price = price_us(anomaly_mode, loop(on=True))
    assert price.low_ns == close(10 * 30 + 20 * 50)
    finding = found(anomaly_mode, loop(on=True))
    assert "set_detect_anomaly(False)" in finding.fix
    assert finding.evidence[0].value == 10


def test_stacks_of_deeper_modules_take_longer() -> None:
    price = price_us(anomaly_mode, loop(on=True, deep=400))
    assert price.low_ns == close(10 * 30 + 20 * 50 + 10 * 400)


def test_an_operator_of_known_work_takes_no_more_than_that() -> None:
    run = loop(on=True)
    run.__dict__["peaks"] = replace(run.peaks, bandwidth=10e9)
    # the products of 768 bytes keep 2 us and 0.2
    assert price_us(anomaly_mode, run).mid_ns == close(10 * 30 + 10 * 50 + 10 * 148)


@pytest.mark.parametrize("told", [False, None])
def test_searches_show_what_the_setting_between_steps_does_not(told: bool | None) -> None:
    assert found(anomaly_mode, loop(on=told)).evidence[0].value == 10


def test_off_is_no_finding_and_unknown_is_not_judged() -> None:
    silent(anomaly_mode, loop(on=False, searched=False))
    assert isinstance(anomaly_mode.judge(loop(on=None, searched=False)), Skip)
