"""ungraphed-steps: equal steps without waits are proposed as a graph, else the obstacle is said."""

from __future__ import annotations

from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.host.ungraphed_steps import ungraphed_steps
from tests.rules.drawing import compute, launches, steps
from tests.rules.judging import close, price_us, run_of, silent


def test_equal_steps_without_waits_are_proposed_as_a_graph() -> None:
    # 4 ms of launching for 1 ms of kernels: with 5 % of the host time the device decides; low end: 30 % of 4 ms stay
    price = price_us(ungraphed_steps, run_of(launches()))
    assert price.mid_ns == close(3_000)
    assert price.low_ns == close(4_000 * 0.7)


def test_the_reason_why_a_graph_does_not_fit_is_given() -> None:
    waiting, varying = (
        ungraphed_steps.judge(run_of(launches(wait=True))),
        ungraphed_steps.judge(run_of(launches(vary=True))),
    )
    assert isinstance(waiting, Skip)
    assert "synchronisation" in waiting.reason
    assert isinstance(varying, Skip)
    assert "differ between steps" in varying.reason


def test_a_device_that_never_waits_needs_no_graph() -> None:
    silent(ungraphed_steps, run_of(steps(lambda drawn: compute(drawn, 5_000))))
