"""anomaly-mode: the NaN searches are the low end, the stacks that this run's own views show come on top."""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import PrecisionFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.host.anomaly_mode import anomaly_mode
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def loop(*, on: bool | None) -> Run:
    """Per step: 10 views of 52 us, 10 products of 150, and 10 gradients searched in 30 us each."""
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            for i in range(10):
                drawn.op("aten::t", host=52, sequence=2 * i)
                drawn.op("aten::mm", host=150, sequence=2 * i + 1)
            for _ in range(10):
                with drawn.span("autograd::engine::evaluate_function: MmBackward0", "cpu_op"):
                    drawn.op("aten::mm", host=200)
                    drawn.op("aten::isnan", host=20)
                    with drawn.span("aten::any", "cpu_op"):
                        drawn.op("aten::fill_", host=10)
    return run_of(drawn, precision=PrecisionFacts(anomaly_mode=on))


def test_searches_and_stacks_are_what_it_costs() -> None:
    price = price_us(anomaly_mode, loop(on=True))
    assert price.low_ns == close(10 * 30 + 20 * 25)
    assert price.mid_ns == close(10 * 30 + 20 * 50)
    finding = found(anomaly_mode, loop(on=True))
    assert "set_detect_anomaly(False)" in finding.fix
    assert finding.evidence[0].value == 10


def test_off_is_no_finding_and_unknown_is_not_judged() -> None:
    silent(anomaly_mode, loop(on=False))
    assert isinstance(anomaly_mode.judge(loop(on=None)), Skip)
