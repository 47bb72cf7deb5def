"""A rare long step: savings are told of the mean step, which holds a share of it, and never promise more than there is."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.api.diagnose import diagnose
from mfu_doctor.comparison.compare import compare
from mfu_doctor.comparison.prediction import HELD
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.facts import Facts
from mfu_doctor.render import render
from tests.timeline import Timeline

KERNELS_US = 1_000
PAUSE_US = 20_000
STEPS = 12
LEFT = 0.05  # long-steps: the other work is done so many times less that it takes this part of the time


def drawn(pause: int = PAUSE_US, *, compiling: bool = False, kernel: int = KERNELS_US, often: int = 1) -> Timeline:
    """Steps of one kernel that the host waits for; one of twelve does something else for a while."""
    t = Timeline()
    for step in (step for _ in range(often) for step in range(STEPS)):
        with t.step():
            t.op("aten::mm", kernel=kernel)
            t.sync()
            if step == STEPS // 2:
                if compiling:
                    with t.span("compile_fx_inner (dynamo_timed)", "cpu_op"):
                        t.python(pause)
                else:
                    t.python(pause)
    return t


@pytest.mark.parametrize(("rule", "compiling"), [("long-steps", False), ("recompilation", True)])
def test_no_fix_for_a_rare_long_step_promises_less_than_the_kernels_take(rule: str, compiling: bool) -> None:
    report = diagnose(drawn(compiling=compiling).trace())
    found = report.diagnosis(rule)
    assert found is not None
    assert found.saving is not None
    assert report.step_time_s is not None
    judged = sum(row.steady for row in report.steps)
    left_us = LEFT / (1 - LEFT) * KERNELS_US if rule == "long-steps" else 0.0
    assert found.saving.mid == pytest.approx((PAUSE_US / judged - left_us) * 1e-6, rel=0.005)
    assert found.saving.step_high_s is not None
    assert found.saving.step_high_s >= KERNELS_US * 1e-6
    assert found.saving.step_high_s == pytest.approx(report.step_time_s.median, rel=0.05)
    assert found.saving.high <= report.step_time_s.stated


def test_the_report_says_how_sure_the_share_of_long_steps_is() -> None:
    assert any("1 of 10 steps took more than 1.5 times" in text for text in diagnose(drawn().trace()).cautions)
    assert not any("1.5 times" in text for text in diagnose(drawn(0).trace()).cautions)


def live(pause: int, **how: bool) -> Run:
    """The same as a live run whose un-profiled steps were all short."""
    return Run(replace(drawn(pause, **how).trace(), facts=Facts(timed_steps_s=(KERNELS_US * 1.02e-6,) * 9)))


def test_a_live_step_that_compiled_is_no_accident() -> None:
    report = diagnose_run(live(PAUSE_US, compiling=True)).report
    assert not any("excluded" in text for text in report.cautions)
    found = report.diagnosis("recompilation")
    assert found is not None
    assert found.status == "failed"
    assert found.saving is not None
    assert found.saving.step_high_s is not None
    assert found.saving.step_high_s >= KERNELS_US * 1e-6


def test_a_live_step_that_something_else_stopped_is_left_out() -> None:
    report = diagnose_run(live(PAUSE_US)).report
    assert any("excluded" in text for text in report.cautions)
    assert report.step_time_s is not None
    assert report.step_time_s.stated == pytest.approx(KERNELS_US * 1.02e-6)
    assert [(part.kind, part.count) for part in report.step_time_s.left_out] == [("warm-up", 1), ("disturbed", 1)]


@pytest.mark.parametrize("at", [1, 6, 11, 15, 19])
def test_wherever_the_rare_step_is_no_step_becomes_negative(at: int) -> None:
    """At most twelve steps are replayed, and the one that compiles may be none of them."""
    t = Timeline()
    for step in range(20):
        with t.step():
            if step == at:
                with t.span("compile_fx_inner (dynamo_timed)", "cpu_op"):
                    t.python(PAUSE_US)
            t.op("aten::mm", kernel=KERNELS_US)
            t.sync()
    run = Run(replace(t.trace(), facts=Facts(timed_steps_s=(KERNELS_US * 1.02e-6,) * 9)))
    report = diagnose_run(run).report
    assert run.mean_step.stated_ns > KERNELS_US * 1000
    found = report.diagnosis("recompilation")
    assert found is not None
    assert found.saving is None or found.saving.low >= 0


def test_the_headline_and_the_promise_are_of_the_mean_step() -> None:
    """The fix leaves a part of the pause, a program without it is so much quicker: the promise comes true."""
    before, after = diagnose(drawn(often=8).trace()), diagnose(drawn(0, often=8).trace())
    assert before.step_time_s is not None
    assert before.step_time_s.mean == pytest.approx((KERNELS_US + PAUSE_US / 12) * 1e-6, rel=0.05)
    assert "step 2.68 ms" in render(before, "markdown")
    assert "median 1.0" in render(before, "markdown")
    assert after.step_time_s is not None
    found = compare(before, after, fixes=("long-steps",)).prediction
    assert found.predicted_s == pytest.approx(after.step_time_s.stated / (1 - LEFT), rel=0.005)
    assert found.outcome == HELD


def test_one_long_step_alone_is_too_few_to_check_a_prediction_by() -> None:
    """What one of ten recorded steps adds may as well be nothing or twice as much in the whole run."""
    found = compare(diagnose(drawn().trace()), diagnose(drawn(0).trace()), fixes=("long-steps",)).prediction
    assert found.outcome is None
    assert "not larger than the noise" in str(found.reason)


def test_unknown_flops_of_an_evaluation_leave_those_of_the_training_step_known() -> None:
    """Shapes are recorded of a training step. What one long step has besides is no model work, and its time counts."""
    t = Timeline()
    for step in range(8):
        with t.step():
            t.op("aten::mm", kernel=1_000, dims=[[4096, 4096]] * 2, types=["c10::BFloat16"] * 2)
            for _ in range(7 if step == 4 else 0):
                t.op("aten::mm", kernel=1_000, kernel_name="ampere_bf16_s16816gemm_bf16_128x128_nn")
            t.sync()
    run = Run(t.trace())
    assert run.mfu.report.model_flops == 2 * 4096**3
    assert run.mfu.report.upper is None
    assert run.mfu.report.value == pytest.approx(2 * 4096**3 / run.mfu.step_s / 311.9e12, rel=1e-3)


def test_a_later_pace_makes_usual_steps_longer_and_not_what_long_steps_have_besides() -> None:
    """Usual steps take twice as long later. The pause does not: all of it saved leaves a usual step, not less."""
    beside, later = KERNELS_US * 1e-6, 2 * KERNELS_US * 1e-6
    timed = (*(later,) * 110, *((KERNELS_US + PAUSE_US) * 1e-6,) * 10)
    run = Run(replace(drawn().trace(), facts=Facts(timed_steps_s=timed, beside_steps_s=(beside,) * 5)))
    found = diagnose_run(run).report.diagnosis("long-steps")
    assert found is not None
    assert found.saving is not None
    assert found.saving.high <= run.mean_step.stated_ns * 1e-9 - beside
    assert run.mean_step.in_run(run.replay.recorded_ns) == pytest.approx(run.mean_step.stated_ns)
