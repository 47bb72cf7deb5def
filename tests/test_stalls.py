"""What stopped an operator while it was recorded is no part of the operator: its fix is priced at what it usually takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mfu_doctor.analysis.edits import ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import Facts
from tests.timeline import Timeline

USUAL_US = {"aten::mm": 300, "aten::softmax": 100, "aten::add": 50}
STEP_US = sum(USUAL_US.values())
STALL_US = 500


def run_of(
    stalls: dict[int, str], *, timed_us: float | tuple[float, ...] | None = STEP_US, extra: dict[int, str] | None = None
) -> Run:
    """Six CPU steps of three operators; in some of them one takes half a millisecond longer, or another operator runs too."""
    times = timed_us if isinstance(timed_us, tuple) else (timed_us or 0.0,) * 9
    t = Timeline(device=None)
    for step in range(6):
        with t.step():
            for name, us in USUAL_US.items():
                t.op(name, host=us + (STALL_US if stalls.get(step) == name else 0))
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
    assert without(run, "aten::softmax") == pytest.approx(100, rel=0.02)
    assert without(run, "aten::mm") == pytest.approx(300, rel=0.02)


def test_a_foreign_trace_is_believed() -> None:
    """Nothing says that the long operator is not the run's own."""
    run = run_of({2: "aten::softmax", 4: "aten::mm"}, timed_us=None)
    assert without(run, "aten::softmax") == pytest.approx(100 + STALL_US / 5, rel=0.02)


def test_un_profiled_steps_as_long_as_the_recorded_ones_leave_them_as_they_are() -> None:
    mean = STEP_US + 2 * STALL_US / 5
    run = run_of({2: "aten::softmax", 4: "aten::mm"}, timed_us=mean)
    assert without(run, "aten::softmax") == pytest.approx(100 + STALL_US / 5, rel=0.02)


def test_steps_that_do_something_else_are_not_compared() -> None:
    """Three steps are all different: there is no usual time of anything."""
    run = run_of({4: "aten::mm"}, extra={1: "aten::a", 2: "aten::b", 3: "aten::c", 5: "aten::d"})
    recorded = (300 * 5 + STALL_US) / 5
    share = without(run, "aten::mm") / (run.replay.measured_ns / 1000)
    assert share == pytest.approx(recorded / (STEP_US + STALL_US), rel=0.02)


def test_what_the_un_profiled_steps_do_too_is_the_runs_own() -> None:
    """Two steps of five do more, recorded or not: most un-profiled steps are short, and yet nothing was stopped."""
    times = tuple(STEP_US + (STALL_US if i % 5 in (1, 3) else 0) for i in range(10))
    run = run_of({2: "aten::softmax", 4: "aten::softmax"}, timed_us=times)
    assert run.replay.measured_ns / 1000 == pytest.approx(STEP_US + STALL_US * 2 / 5, rel=0.01)  # per mean step
    assert without(run, "aten::softmax") == pytest.approx(100 + STALL_US * 2 / 5, rel=0.02)


def test_compiling_inside_an_operator_is_no_stall() -> None:
    t = Timeline(device=None)
    for step in range(6):
        with t.step():
            for name, us in USUAL_US.items():
                compiling = step == 3 and name == "aten::mm"
                with t.span("compile_fx_inner (dynamo_timed)" if compiling else "block"):
                    t.op(name, host=us + (20_000 if compiling else 0))
    run = Run(replace(t.trace(), facts=Facts(timed_steps_s=(STEP_US * 1e-6,) * 9)))
    assert run.replay.rarely > 5
    assert run.replay.timeline.usual_ns > 0
