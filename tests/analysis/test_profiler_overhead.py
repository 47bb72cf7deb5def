"""The profiler's own time: taken out of the host's work until the replayed step is as long as it was without a profiler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfu_doctor.analysis.replay.edits import ScaleDevice, ScaleHost, SetDevice
from mfu_doctor.analysis.replay.profiler_overhead import deflate
from mfu_doctor.analysis.replay.replay import Replay, walk
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


def deflated(run: Run, target_ns: float) -> Replay:
    recorded = run.replay.timeline
    return Replay(recorded, run.activity.row, deflate(recorded, run.trace, target_ns))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.floats(0.55, 0.97))
def test_the_replayed_step_comes_out_as_long_as_without_the_profiler(inflation: int, share: float) -> None:
    """Whatever part of the host's time is the profiler's, what is left takes the un-profiled step."""
    run = host_bound(inflation=inflation)
    target = run.replay.measured_ns * share
    replay = deflated(run, target)
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
    assert deflated(run, target).base_ns == pytest.approx(target, rel=0.005)


def test_a_device_bound_run_is_left_as_recorded() -> None:
    """No host time explains a shorter step: nothing is taken out, rather than something invented."""
    t = Timeline()
    for _ in range(8):
        with t.step():
            for _ in range(10):
                t.op("aten::mm", kernel=1000)
    run = Run(t.trace())
    recorded = run.replay.timeline
    assert deflate(recorded, run.trace, run.replay.measured_ns * 0.7) is recorded


def test_prices_are_about_the_run_without_the_profiler() -> None:
    """14 us of 19 per operator are Python as recorded; 4 of them are the profiler's, so removing Python leaves 5 of 15 us."""
    run = host_bound(inflation=2)
    replay = deflated(run, run.replay.measured_ns * 15 / 19)
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
