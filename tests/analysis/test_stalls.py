"""What stopped an operator while it was recorded is no part of the operator: its fix is priced at what it usually takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfu_doctor.analysis.replay.edits import ScaleDevice, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import Facts
from tests.timeline import Timeline

USUAL_US = {"aten::mm": 3000, "aten::softmax": 1000, "aten::add": 500}
STEP_US = sum(USUAL_US.values())
STALL_US = 2000  # less than half a step more, so that the step is no accident
RECORDING_US = 31  # what the boundaries around an operator may be taken to cost, and a microsecond for rounding


def run_of(
    stalls: dict[int, str],
    *,
    timed_us: float | tuple[float, ...] | None = STEP_US,
    extra: dict[int, str] | None = None,
    stall: int = STALL_US,
) -> Run:
    """Six CPU steps of three operators; in some of them one takes two milliseconds longer, or another operator runs too."""
    times = timed_us if isinstance(timed_us, tuple) else (timed_us or 0.0,) * 9
    t = Timeline(device=None)
    for step in range(6):
        with t.step():
            for name, us in USUAL_US.items():
                t.op(name, host=us + (stall if stalls.get(step) == name else 0))
            if extra and step in extra:
                t.op(extra[step], host=STALL_US)
    facts = None if timed_us is None else Facts(timed_steps_s=tuple(us * 1e-6 for us in times))
    return Run(replace(t.trace(), facts=facts))


def without(run: Run, name: str) -> float:
    """Microseconds that removing an operator saves, of the step that the run states."""
    rows = np.array([row for row in run.activity.row if run.trace.name_of(int(row)) == name], np.int64)
    replay = run.replay
    return (replay.measured_ns - replay.step_ns([ScaleDevice(rows, np.zeros(len(rows)))])) / 1000


def test_an_operator_that_was_stopped_once_is_worth_what_it_usually_takes() -> None:
    run = run_of({2: "aten::softmax", 4: "aten::mm"})
    assert run.replay.measured_ns / 1000 == pytest.approx(STEP_US, rel=0.01)
    assert without(run, "aten::softmax") == pytest.approx(1000, rel=0.02)
    assert without(run, "aten::mm") == pytest.approx(3000, rel=0.02)


def test_a_foreign_trace_is_believed() -> None:
    """Nothing says that the long operator is not the run's own."""
    run = run_of({2: "aten::softmax", 4: "aten::mm"}, timed_us=None)
    assert without(run, "aten::softmax") == pytest.approx(1000 + STALL_US / 5, rel=0.02)


def test_un_profiled_steps_as_long_as_the_recorded_ones_leave_them_as_they_are() -> None:
    mean = STEP_US + 2 * STALL_US / 5
    run = run_of({2: "aten::softmax", 4: "aten::mm"}, timed_us=mean)
    assert without(run, "aten::softmax") == pytest.approx(1000 + STALL_US / 5, rel=0.02)


def test_steps_that_do_something_else_are_not_compared() -> None:
    """Three steps are all different: there is no usual time of anything."""
    run = run_of({4: "aten::mm"}, extra={1: "aten::a", 2: "aten::b", 3: "aten::c", 5: "aten::d"})
    recorded = (3000 * 5 + STALL_US) / 5
    share = without(run, "aten::mm") / (run.replay.measured_ns / 1000)
    assert share == pytest.approx(recorded / (STEP_US + STALL_US), rel=0.02)


def test_what_the_un_profiled_steps_do_too_is_the_runs_own() -> None:
    """Two steps of five do more, recorded or not: most un-profiled steps are short, and yet nothing was stopped."""
    times = tuple(STEP_US + (5000 if i % 5 in (1, 3) else 0) for i in range(10))
    run = run_of({2: "aten::softmax", 4: "aten::softmax"}, timed_us=times, stall=5000)
    assert run.replay.measured_ns / 1000 == pytest.approx(STEP_US + 5000 * 2 / 5, rel=0.01)  # per mean step
    assert without(run, "aten::softmax") == pytest.approx(1000 + 5000 * 2 / 5, rel=0.02)


def test_compiling_inside_an_operator_is_no_stall() -> None:
    t = Timeline(device=None)
    for step in range(6):
        with t.step():
            for name, us in USUAL_US.items():
                compiling = step == 3 and name == "aten::mm"
                with t.span("compile_fx_inner (dynamo_timed)" if compiling else "block"):
                    t.op(name, host=us + (200_000 if compiling else 0))
    run = Run(replace(t.trace(), facts=Facts(timed_steps_s=(STEP_US * 1e-6,) * 9)))
    assert run.replay.rarely > 5
    assert run.replay.timeline.usual_ns > 0


def test_an_operator_that_was_stopped_in_most_steps_is_known_by_the_others() -> None:
    """Four recorded steps of five were stopped in the same place; un-profiled none was."""
    run = run_of({1: "aten::mm", 2: "aten::mm", 3: "aten::mm", 4: "aten::mm"})
    assert run.replay.measured_ns / 1000 == pytest.approx(STEP_US, rel=0.01)
    assert without(run, "aten::mm") == pytest.approx(3000, rel=0.02)


def test_half_the_surplus_takes_half_of_each_stall() -> None:
    """The un-profiled steps were stopped too, half as much."""
    run = run_of({2: "aten::softmax", 4: "aten::mm"}, timed_us=STEP_US + STALL_US / 5)
    assert without(run, "aten::softmax") == pytest.approx(1000 + STALL_US / 10, rel=0.02)
    assert without(run, "aten::mm") == pytest.approx(3000 + STALL_US / 10, rel=0.02)


def test_a_machine_that_was_slower_as_a_whole_leaves_the_shares_as_recorded() -> None:
    """A recording costs microseconds per operator, so a step 900 us longer in every operator alike was slower itself."""
    run = run_of({}, timed_us=STEP_US * 0.8)
    share = without(run, "aten::mm") / (run.replay.measured_ns / 1000)
    assert share == pytest.approx(3000 / STEP_US, rel=0.01)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([None, *USUAL_US]), min_size=6, max_size=6), st.floats(1.0, 1.5))
def test_the_replayed_step_is_as_long_as_without_the_profiler(stopped: list[str | None], longer: float) -> None:
    """Wherever the stalls fell: the surplus is taken out, and of an operator no more than it was stopped, as other steps show."""
    run = run_of({i: name for i, name in enumerate(stopped) if name}, timed_us=STEP_US * longer)
    replay, target = run.replay, STEP_US * longer * 1000
    if replay.recorded_ns > target * 1.02:
        assert replay.measured_ns == pytest.approx(target)
        assert replay.base_ns == pytest.approx(target, rel=0.005)
    if all(stopped[1:].count(name) < 5 for name in USUAL_US):
        for name, us in USUAL_US.items():
            assert without(run, name) >= us - RECORDING_US


def with_a_pause(ops_us: int, *, pause_us: int = 4000, timed_us: int) -> tuple[float, float]:
    """Five steps of a pause in the user's own Python and an operator; the step and what the pause is worth of it."""
    t = Timeline(device=None)
    for _ in range(6):
        with t.step():
            t.op("aten::mm", host=ops_us // 2)
            t.python(pause_us)
            t.op("aten::mm", host=ops_us // 2)
    run = Run(replace(t.trace(), facts=Facts(timed_steps_s=(timed_us * 1e-6,) * 9)))
    saved = run.replay.measured_ns - run.replay.step_ns([ScaleHost(run.breakdown.owners["python"])])
    return run.replay.measured_ns / 1000, saved / 1000


def test_a_pause_in_the_users_python_is_not_what_recording_makes_longer() -> None:
    """Recorded 4000 + 6000 us, without the profiler 9000: the operators were slowed, and the pause is worth what it was."""
    step, pause = with_a_pause(6000, timed_us=9000)
    assert step == pytest.approx(9000, rel=0.005)
    assert pause == pytest.approx(4000, rel=0.01)


def test_operators_do_not_make_up_for_pauses_that_were_longer() -> None:
    """Recorded 8000 + 2000 us, without the profiler 6000: no operators of nothing, but all of it recorded on a slower machine."""
    step, pause = with_a_pause(2000, pause_us=8000, timed_us=6000)
    assert pause / step == pytest.approx(0.8, rel=0.01)
