"""Long steps among the un-profiled ones: how often they must come to be the run's own and no accident."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import Facts
from tests.timeline import Timeline

STEP_US = 4500
LONGER_US = 5000


def live(timed: int) -> Run:
    """A CPU run of six recorded steps, one of them long, and of so many un-profiled ones, two of them long."""
    t = Timeline(device=None)
    for step in range(6):
        with t.step():
            t.op("aten::mm", host=3000)
            t.op("aten::softmax", host=1500 + (LONGER_US if step == 3 else 0))
    times = tuple((STEP_US + (LONGER_US if i in (1, 7) else 0)) * 1e-6 for i in range(timed))
    return Run(replace(t.trace(), facts=Facts(timed_steps_s=times)))


@pytest.mark.parametrize(("timed", "step_us"), [(10, STEP_US + LONGER_US / 5), (12, STEP_US)])
def test_one_long_step_in_five_comes_again_and_one_in_six_may_be_the_machine(timed: int, step_us: float) -> None:
    """What comes again is a part of the mean step, which fixes are priced on; an accident is not."""
    assert live(timed).replay.measured_ns / 1000 == pytest.approx(step_us, rel=0.01)
