"""growing-step: what is cheap in the recorded steps and not later is a finding of its own, priced in the mean of the run."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.facts.whole_run import LineTime, StepCourse, WholeRun
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.host.growing_step import growing_step
from mfu_doctor.rules.trace.early_recording import early_recording
from tests.rules.judging import caution, found, run_of, silent
from tests.timeline import Timeline

MODEL = LineTime(place="train.py:5", function="backward", library="torch", short_s=0.025, long_s=0.025)
METRIC = LineTime(place="train.py:9", function="compute", library="torchmetrics", short_s=0.005, long_s=0.045)
GRAPH = LineTime(place="train.py:7", function="backward", library="torch", short_s=0.010, long_s=0.060)


TRAINER = LineTime(place="run.py:140", function="train", library="trainers", short_s=0.005, long_s=0.045)


def growing(*lines: LineTime, by_s: float = 0.001, fetch: int = 0, stack: str = "run.py(9): main") -> Run:
    """Steps of 30 ms when they are recorded, which grow in each of the hundred steps of the run."""
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step(), drawn.span(stack, "python_function"):
            if fetch:
                drawn.fetch(fetch)
            drawn.op("aten::mm", host=30_000 - fetch)
            with drawn.span("Optimizer.step#Adam.step"):
                drawn.python(2)
    times = tuple(0.030 + by_s * i for i in range(100))
    account = WholeRun(wall_s=10.0, ended=True, steps=106, steps_s=sum(times))
    course = StepCourse(steps=1, parts_s=times, lines=lines)
    return run_of(
        drawn,
        beside_steps_s=(0.030,) * 5,
        profiled_steps_s=(0.030,) * 5,
        timed_steps_s=times,
        timed_waits_s=(fetch / 1e6,) * 100,
        whole_run=account,
        course=course,
    )


def test_a_metric_over_all_samples_so_far_is_named_with_what_it_costs_in_the_mean() -> None:
    finding = found(growing_step, growing(MODEL, METRIC))
    assert finding.summary == "A step takes 30.0 ms at first and 129 ms in the end: it grows by 1.0 ms a step"
    assert finding.fix.startswith("# train.py:9 compute() of torchmetrics: compute it when the epoch ends")
    assert finding.place == "train.py:9"
    assert finding.throughput_gain == pytest.approx(0.0795 / 0.030 - 1)
    assert finding.detail is not None
    assert "saves 49.5 ms of 79.5 ms in the mean of this run, and more in a longer one" in finding.detail


def test_a_metric_leaves_the_step_with_what_it_takes_at_the_beginning_too() -> None:
    dear = replace(METRIC, short_s=0.026, long_s=0.093)  # of 46 ms in the shortest third, and of 113 in the longest
    finding = found(growing_step, growing(replace(MODEL, short_s=0.020, long_s=0.020), dear))
    assert finding.throughput_gain == pytest.approx(0.0795 / 0.020 - 1)
    assert "a step without it saves 59.5 ms of 79.5 ms" in (finding.detail or "")
    own = found(growing_step, growing(MODEL, replace(dear, library=None)))
    assert own.throughput_gain == pytest.approx(0.0795 / 0.030 - 1)


def test_a_line_that_calls_a_trainer_is_not_where_it_grows() -> None:
    grown = found(growing_step, growing(MODEL, TRAINER, stack="trainers/loop.py(500): train"))
    assert grown.place is None
    assert grown.fix.startswith("# train() of trainers: what a callback")
    assert found(growing_step, growing(MODEL, TRAINER)).place == "run.py:140"


def test_a_graph_that_is_never_cut_grows_in_backward() -> None:
    assert "detach what is kept from step to step" in found(growing_step, growing(MODEL, GRAPH)).fix


def test_longer_sequences_lengthen_forward_and_backward_alike_and_are_not_advised_against() -> None:
    forward = LineTime(place="model.py:30", function="linear", library="torch", short_s=0.011, long_s=0.042)
    update = LineTime(place="train.py:8", function="step", library="torch", short_s=0.004, long_s=0.004)
    longer = growing(forward, replace(GRAPH, short_s=0.022, long_s=0.084), update)
    assert "as with longer sequences" in (found(growing_step, longer).withhold or "")
    assert not diagnose_run(longer).report.failed


def test_adding_up_losses_whose_graph_grows_is_no_forward_pass() -> None:
    added = LineTime(place="train.py:6", function="stack", library="torch", short_s=0.0005, long_s=0.004)
    assert found(growing_step, growing(MODEL, added, GRAPH)).withhold is None
    listed = replace(added, short_s=0.010, long_s=0.160)  # a list of the program, searched: most of the growth
    assert found(growing_step, growing(MODEL, listed, replace(GRAPH, long_s=0.030))).withhold is None


def test_a_growing_step_comes_before_what_the_recorded_steps_show() -> None:
    """The other prices are of a young step: they are not stretched to what the step takes later."""
    report = diagnose_run(growing(MODEL, METRIC, fetch=6_000)).report
    first, second = report.failed[:2]
    assert (first.rule, second.rule) == ("growing-step", "input-bound")
    assert second.saving is not None
    assert second.saving.high == pytest.approx(0.006, rel=0.05)


def test_the_caution_of_an_early_recording_says_that_steps_grow() -> None:
    assert "79.5 ms in the rest of the run (medians): they grow" in caution(early_recording, growing(MODEL, METRIC))


def test_steps_that_stay_are_silent() -> None:
    silent(growing_step, growing(MODEL, METRIC, by_s=0.0))


def test_without_a_line_the_growth_is_said_and_not_laid_to_the_program() -> None:
    outcome = growing_step.judge(growing())
    assert isinstance(outcome, Skip)
    assert "steps grow from 30.0 ms to 129 ms" in outcome.reason
