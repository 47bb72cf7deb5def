"""Long steps among un-profiled and recorded ones: they come as often as all of them together say."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import Facts
from tests.timeline import Timeline

STEP_US = 4500
LONGER_US = 5000


def live(timed: int, recorded_long: int = 1) -> Run:
    """A CPU run of six recorded steps, one of them long, and of so many un-profiled ones, two of them long."""
    t = Timeline(device=None)
    for step in range(6):
        with t.step():
            t.op("aten::mm", host=3000)
            t.op("aten::softmax", host=1500 + (LONGER_US if step == 3 and recorded_long else 0))
    times = tuple((STEP_US + (LONGER_US if i in (1, 7) else 0)) * 1e-6 for i in range(timed))
    return Run(replace(t.trace(), facts=Facts(timed_steps_s=times)))


@pytest.mark.parametrize("timed", [10, 12, 200])
def test_long_steps_come_as_often_as_both_say(timed: int) -> None:
    """Two of the timed ones and one of five recorded: what is stated, what is split and what is replayed agree."""
    run = live(timed)
    expected = STEP_US + LONGER_US * 3 / (timed + 5)
    assert run.mean_step.stated_ns / 1000 == pytest.approx(expected, rel=0.001)
    assert run.breakdown.whole.total / run.breakdown.count / 1000 == pytest.approx(expected, rel=0.001)
    assert run.replay.measured_ns / 1000 == pytest.approx(expected, rel=0.001)


def test_what_only_un_profiled_steps_show_is_stated_and_a_saving_is_not_larger_for_it() -> None:
    """No recorded step is long, so their split is of usual steps, and a millisecond saved in it is one millisecond."""
    run = live(10, recorded_long=0)
    assert run.mean_step.stated_ns / 1000 == pytest.approx(STEP_US + LONGER_US / 5, rel=0.001)
    assert run.replay.measured_ns / 1000 == pytest.approx(STEP_US, rel=0.001)
