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


def bursts(profiled_us: tuple[int, ...], beside_us: tuple[int, ...]) -> Run:
    """Steps of 40 and of 200 ms in turns; all recorded ones are of 200 ms, and 5 ms for recording."""
    t = Timeline(device=None)
    for _ in range(6):
        with t.step():
            t.op("aten::mm", host=205_000)
    times = (0.040, 0.200) * 50
    beside, profiled = (tuple(us * 1e-6 for us in some) for some in (beside_us, profiled_us))
    return Run(replace(t.trace(), facts=Facts(timed_steps_s=times, beside_steps_s=beside, profiled_steps_s=profiled)))


def test_recorded_steps_that_are_all_long_are_not_slow_because_they_were_recorded() -> None:
    run = bursts((45_000, 205_000, 205_000, 205_000, 205_000), (40_000, 200_000, 40_000, 200_000, 40_000))
    assert run.mean_step.all_long
    assert run.mean_step.recording_ns / 1e6 == pytest.approx(5.0)
    assert run.mean_step.stated_ns / 1e6 == pytest.approx(120.0)
    assert run.mean_step.in_run(run.replay.recorded_ns) / 1e6 == pytest.approx(120.0)
    assert run.replay.measured_ns / 1e6 == pytest.approx(200.0, rel=0.01)


@pytest.mark.parametrize(
    ("profiled", "beside"),
    [
        (
            (205_000,) * 5,
            (40_000, 200_000, 40_000, 200_000, 40_000),
        ),  # no quick one was recorded: the profiler may slow all
        ((45_000, 205_000, 205_000), (40_000,) * 5),  # nothing tells that steps are long without it
    ],
)
def test_steps_that_nothing_shows_to_be_long_are_slow_because_they_were_recorded(
    profiled: tuple[int, ...], beside: tuple[int, ...]
) -> None:
    run = bursts(profiled, beside)
    assert not run.mean_step.all_long
    assert run.mean_step.recording_ns / 1e6 == pytest.approx(165.0)
