"""The profiler's own time: taken out of the host's work until the replayed step is as long as it was without a profiler."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mfu_doctor.analysis.replay.edits import ScaleDevice, ScaleHost, SetDevice
from mfu_doctor.analysis.replay.profiler_overhead import without_profiler
from mfu_doctor.analysis.replay.replay import Replay
from mfu_doctor.analysis.replay.walk import walk
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import Facts
from tests.timeline import Timeline

US = 1000


def host_bound(ops: int = 40, inflation: int = 2) -> Run:
    """Operators of 5 us every 10 us; recording each of them costs `inflation` us before and after it."""
    t = Timeline(device=None)
    for _ in range(6):
        with t.step():
            for _ in range(ops):
                t.python(10 + 2 * inflation)
                t.op("aten::add", host=5)
    return Run(t.trace())


def corrected(run: Run, target_ns: float) -> Replay:
    recorded = run.replay.timeline
    return Replay(recorded, run.activity.row, without_profiler(recorded, run.trace, target_ns))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.floats(0.55, 0.97))
def test_the_replayed_step_comes_out_as_long_as_without_the_profiler(inflation: int, share: float) -> None:
    """Whatever part of the host's time is the profiler's, what is left takes the un-profiled step."""
    run = host_bound(inflation=inflation)
    target = run.replay.measured_ns * share
    replay = corrected(run, target)
    assert replay.measured_ns == pytest.approx(target)
    assert replay.base_ns == pytest.approx(target, rel=0.005)


def test_a_run_that_waits_for_its_device_needs_much_taken_out_before_it_gets_shorter() -> None:
    """Kernels hide most of the host's work: the first microseconds taken out change nothing, and the target is still met."""
    t = Timeline()
    for _ in range(8):
        with t.step():
            for _ in range(20):
                t.op("aten::mm", kernel=45, host=50)
            for _ in range(40):
                t.op("aten::add", kernel=2, host=20)
    run = Run(t.trace())
    target = run.replay.measured_ns * 0.8
    assert corrected(run, target).base_ns == pytest.approx(target, rel=0.005)


def test_a_device_bound_run_is_left_as_recorded() -> None:
    """No host time explains a shorter step: nothing is taken out, rather than something invented."""
    t = Timeline()
    for _ in range(8):
        with t.step():
            for _ in range(10):
                t.op("aten::mm", kernel=1000)
    run = Run(t.trace())
    recorded = run.replay.timeline
    assert without_profiler(recorded, run.trace, run.replay.measured_ns * 0.7) is recorded


def test_prices_are_about_the_run_without_the_profiler() -> None:
    """14 us of 19 per operator are Python as recorded; 4 of them are the profiler's, so removing Python leaves 5 of 15 us."""
    run = host_bound(inflation=2)
    replay = corrected(run, run.replay.measured_ns * 15 / 19)
    python = ScaleHost(run.breakdown.owners["python"])
    assert replay.step_ns([python]) == pytest.approx(40 * 5 * US, rel=0.05)
    assert walk(run.replay.timeline) == pytest.approx(40 * 19 * US, rel=0.01)


def test_a_recording_on_a_machine_that_had_slowed_stretches_what_a_fix_would_take() -> None:
    """Recorded at half speed (2000 us for 1000): a kernel that a fix brings to 300 us would have taken 600 in that recording."""
    t = Timeline()
    for _ in range(6):
        with t.step():
            t.op("aten::mm", kernel=2000)
    facts = Facts(timed_steps_s=(1e-3, 1e-3, 1e-3))
    run = Run(replace(t.trace(), facts=facts))
    rows = run.activity.row
    step = run.replay.step_ns([SetDevice(rows, np.full(len(rows), 300 * US))])
    assert step / run.replay.measured_ns == pytest.approx(0.3, rel=0.02)
    scaled = run.replay.step_ns([ScaleDevice(rows, np.full(len(rows), 0.5))])
    assert scaled / run.replay.measured_ns == pytest.approx(0.5, rel=0.02)


OPERATORS_US = {"aten::mm": 3000, "aten::softmax": 1000, "aten::add": 500}
STEP_US = sum(OPERATORS_US.values())


def on_a_cpu(extra: dict[int, int], timed_us: tuple[float, ...]) -> Run:
    """Six CPU steps of three operators; in the steps of `extra` the second takes so many microseconds more."""
    t = Timeline(device=None)
    for step in range(6):
        with t.step():
            for name, us in OPERATORS_US.items():
                t.op(name, host=us + (extra.get(step, 0) if name == "aten::softmax" else 0))
    return Run(replace(t.trace(), facts=Facts(timed_steps_s=tuple(us * 1e-6 for us in timed_us))))


def without(run: Run, name: str) -> float:
    """Share of the step that removing an operator saves."""
    rows = np.array([row for row in run.activity.row if run.trace.name_of(int(row)) == name], np.int64)
    replay = run.replay
    return 1.0 - replay.step_ns([ScaleDevice(rows, np.zeros(len(rows)))]) / replay.measured_ns


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2000), min_size=6, max_size=6), st.floats(0.7, 1.5))
@example([0, 1433, 2000, 2000, 2000, 2000], 0.701171875)  # a few nanoseconds more than half
def test_a_cpu_step_comes_out_as_long_as_without_the_profiler(extra: list[int], longer: float) -> None:
    """Whatever made recorded operators longer, the replayed step takes the un-profiled time, and no operator loses half."""
    run = on_a_cpu(dict(enumerate(extra)), (STEP_US * longer,) * 9)
    replay, target = run.replay, STEP_US * longer * US
    if target * 1.02 < replay.recorded_ns < target * 1.98:
        assert replay.measured_ns == pytest.approx(target)
        assert replay.base_ns == pytest.approx(target, rel=0.005)
    assert without(run, "aten::mm") * replay.measured_ns / US >= OPERATORS_US["aten::mm"] / 2


def test_a_recording_more_than_twice_as_long_as_the_step_is_left_as_it_is() -> None:
    """No operator is believed to have taken twice its time for being recorded: something else was slow, and nobody knows what."""
    replay = on_a_cpu({}, (STEP_US * 0.45,) * 9).replay
    assert replay.measured_ns == pytest.approx(replay.recorded_ns, rel=0.03)  # less what recording the boundaries took


def test_a_machine_that_was_slower_as_a_whole_leaves_the_shares_as_recorded() -> None:
    """A recording costs microseconds per operator, so a step 900 us longer in every operator alike was slower itself."""
    assert without(on_a_cpu({}, (STEP_US * 0.8,) * 9), "aten::mm") == pytest.approx(3000 / STEP_US, rel=0.01)


def test_what_the_un_profiled_steps_do_too_is_the_runs_own() -> None:
    """Two steps of five do more, recorded or not: most un-profiled steps are short, and yet nothing slowed the recording."""
    timed = tuple(STEP_US + (5000 if i % 5 in (1, 3) else 0) for i in range(10))
    run = on_a_cpu({2: 5000, 4: 5000}, timed)
    mean = STEP_US + 5000 * 2 / 5
    assert run.replay.measured_ns / US == pytest.approx(mean, rel=0.01)
    assert without(run, "aten::softmax") == pytest.approx((1000 + 5000 * 2 / 5) / mean, rel=0.02)


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
    return run.replay.measured_ns / US, saved / US


def test_a_pause_in_the_users_python_is_not_what_recording_makes_longer() -> None:
    """Recorded 4000 + 6000 us, without the profiler 9000: the operators were slowed, and the pause is worth what it was."""
    step, pause = with_a_pause(6000, timed_us=9000)
    assert step == pytest.approx(9000, rel=0.005)
    assert pause == pytest.approx(4000, rel=0.01)


def test_operators_do_not_make_up_for_pauses_that_were_longer() -> None:
    """Recorded 8000 + 2000 us, without the profiler 6000: no operators of nothing, but all of it recorded on a slower machine."""
    step, pause = with_a_pause(2000, pause_us=8000, timed_us=6000)
    assert pause / step == pytest.approx(0.8, rel=0.01)
