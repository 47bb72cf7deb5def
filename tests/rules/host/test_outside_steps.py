"""outside-steps: what a run does besides training is the first thing said, where it takes most of the time."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.evidence.collected_data import is_named_for_it
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.facts import HostFacts
from mfu_doctor.facts.whole_run import BETWEEN, LONG, Elsewhere, WholeRun
from mfu_doctor.rules.contract import Finding, Skip
from mfu_doctor.rules.host.outside_steps import outside_steps
from tests.rules.drawing import compute
from tests.rules.host.test_long_steps import rollouts
from tests.rules.judging import found, run_of, silent
from tests.timeline import Timeline


def steady() -> Timeline:
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.fetch(500)
            compute(drawn, 1_000)
            drawn.sync()
    return drawn


def whole(**parts: float | int | bool | tuple[Elsewhere, ...]) -> WholeRun:
    given = {"wall_s": 100.0, "ended": True, "steps": 1000, "steps_s": 10.0, **parts}
    return WholeRun(**given)  # type: ignore[arg-type]


ROLLOUT = Elsewhere(part=LONG, seconds=80.0, place="ppo.py:29", function="collect", kind="rollout")


def evaluating() -> WholeRun:
    told = Elsewhere(part=BETWEEN, seconds=8.0, place="train.py:38", function="validate", kind="evaluation")
    return whole(between_s=8.0, gaps=12, elsewhere=(told,))


def test_a_rollout_that_takes_most_of_the_run_comes_first() -> None:
    run = run_of(steady(), whole_run=whole(long_s=80.0, long_steps=20, elsewhere=(ROLLOUT,)))
    report = diagnose_run(run).report
    first = report.failed[0]
    assert (first.rule, first.place) == ("outside-steps", "ppo.py:29")
    assert "89 % of the run after its start is not training steps" in first.summary
    assert len(report.failed) > 1  # the loader of the steps is found too, behind it


def test_other_work_is_found_beside_the_noise_of_a_busy_machine() -> None:
    noise = Elsewhere(part=LONG, seconds=12.0, place="train.py:11", function="backward", kind="training")
    saving = Elsewhere(part=LONG, seconds=8.0, place="train.py:19", function="save", kind="checkpoint")
    run = run_of(steady(), whole_run=whole(long_s=20.0, long_steps=90, elsewhere=(noise, saving)))
    assert found(outside_steps, run).summary.startswith(
        "27 % of the run after its start is not training steps: 8.00 s beside 22.0 s"
    )


def test_an_evaluation_between_steps_is_named_with_its_line() -> None:
    said = found(outside_steps, run_of(steady(), whole_run=evaluating()))
    assert isinstance(said, Finding)
    assert "train.py:38 validate()" in said.fix
    assert "16 times less of it: evaluate less often" in said.fix  # 0.5 s beside 10 s of steps are 5 % of the run
    assert said.throughput_gain is not None
    assert abs(said.throughput_gain - (18.0 / 10.5 - 1.0)) < 1e-9
    assert said.detail is not None
    assert said.detail.endswith("with half of it 29 % faster, without it 80 %")


def test_the_gain_is_that_of_the_line_that_is_named() -> None:
    """Half of the time is spent elsewhere, and stays."""
    other = Elsewhere(part=BETWEEN, seconds=4.0, place="train.py:50", function="plot")
    parts = whole(between_s=9.0, gaps=12, elsewhere=(replace(evaluating().elsewhere[0], seconds=5.0), other))
    said = found(outside_steps, run_of(steady(), whole_run=parts))
    assert "7 times less of it" in said.fix  # of 5 s beside 14
    assert said.throughput_gain == pytest.approx(19.0 / (14.0 + 5.0 / 7) - 1.0)


def test_time_that_was_seen_at_no_place_is_shared_out() -> None:
    somewhere = Elsewhere(part=BETWEEN, seconds=2.0, function="training_step")
    parts = whole(between_s=10.0, gaps=12, elsewhere=(somewhere, *evaluating().elsewhere))
    said = found(outside_steps, run_of(steady(), whole_run=parts))
    assert said.place == "train.py:38"
    assert said.throughput_gain == pytest.approx(20.0 / (10.0 + 10.0 / 19) - 1.0)


def saving(asked_at: str | None) -> WholeRun:
    saves = Elsewhere(
        part=LONG,
        seconds=18.0,
        function="ModelCheckpoint.on_train_batch_end",
        kind="checkpoint",
        library="lightning",
        asked_at=asked_at,
    )
    near = Elsewhere(part=LONG, seconds=0.2, place="train.py:90", function="optimizer_step")
    return whole(long_s=18.2, long_steps=300, elsewhere=(saves, near))


def test_what_a_trainer_does_by_itself_is_named_and_not_the_nearest_line() -> None:
    said = found(outside_steps, run_of(steady(), whole_run=saving(None)))
    assert said.summary.endswith("most of it checkpoints")
    assert said.fix.startswith("# ModelCheckpoint.on_train_batch_end() of lightning: ")
    assert said.place is None


def test_the_line_that_asks_a_trainer_for_it_is_the_one_to_change() -> None:
    said = found(outside_steps, run_of(steady(), whole_run=saving("train.py:115")))
    assert said.place == "train.py:115"
    assert said.fix.startswith(
        "# train.py:115 ModelCheckpoint.on_train_batch_end() of lightning: 34 times less of it: save"
    )


def test_environments_share_the_cores() -> None:
    host = HostFacts(cores=8, affinity=4)
    parts = whole(long_s=80.0, long_steps=20, elsewhere=(ROLLOUT,))
    said = found(outside_steps, run_of(steady(), whole_run=parts, host=host))
    assert said.fix.startswith("# ppo.py:29 collect(): 4 times as many environments at the same time")
    assert said.throughput_gain == pytest.approx(90.0 / 30.0 - 1.0)


def test_what_steps_learn_from_is_no_fault_and_not_done_less_often() -> None:
    """A rollout of a script without functions of its own: only the policy's name tells, and it may not be done less often."""
    acts = replace(ROLLOUT, place="ppo.py:76", function="get_action_and_value", kind=None)
    report = diagnose_run(run_of(steady(), whole_run=whole(long_s=80.0, long_steps=20, elsewhere=(acts,)))).report
    first = report.failed[0]
    assert (first.rule, first.trades) == ("outside-steps", True)
    assert (first.fix or "").startswith("# ppo.py:76 get_action_and_value(): 2 times as many environments")
    assert report.verdict is not None
    said = "Most is saved by a choice that changes what is learned: this (outside-steps, ppo.py:76)"
    assert said in report.verdict.sentence


@pytest.mark.parametrize(
    "name", ["select_action", "_sample_actions", "collect_rollouts", "self_play", "collect_trajectories"]
)
def test_a_name_says_that_a_function_acts(name: str) -> None:
    assert is_named_for_it(name)


@pytest.mark.parametrize(
    "name",
    [
        "collect_metrics",
        "collect_data",
        "log_rollouts",
        "_collect_outputs",
        "collect_garbage",
        "explore_lr",
        "simulate_quantization",
        "act_quant",
        "transact",
        None,
    ],
)
def test_what_collects_something_else_is_done_less_often(name: str | None) -> None:
    assert not is_named_for_it(name)


def test_work_that_draws_and_is_kept_is_what_steps_learn_from() -> None:
    unnamed = replace(ROLLOUT, function="forward", kind=None)
    parts = whole(long_s=80.0, long_steps=20, elsewhere=(unnamed,))
    known = found(outside_steps, run_of(rollouts(), whole_run=parts))
    assert known.is_choice
    assert "rollout" in known.summary
    assert not found(outside_steps, run_of(steady(), whole_run=parts)).is_choice
    rare = replace(unnamed, kind="evaluation")
    assert not found(
        outside_steps, run_of(rollouts(), whole_run=whole(long_s=80.0, long_steps=20, elsewhere=(rare,)))
    ).is_choice


def test_workers_that_stay_start_once() -> None:
    loads = Elsewhere(part=BETWEEN, seconds=10.0, place="train.py:9", kind="data loading")
    parts = whole(between_s=10.0, gaps=10, elsewhere=(loads,))
    assert found(outside_steps, run_of(steady(), whole_run=parts)).throughput_gain == pytest.approx(20.0 / 11.0 - 1.0)


def test_a_usual_evaluation_is_no_finding() -> None:
    silent(outside_steps, run_of(steady(), whole_run=whole(between_s=1.0, gaps=3)))


def test_steps_that_a_busy_machine_made_long_are_not_other_work() -> None:
    """Their time is spread over the lines of a usual step; a line that calls nothing waits, for the device or for the machine."""
    told = ((10, 30.0, "forward", "training"), (11, 40.0, "backward", "training"), (12, 10.0, None, None))
    lines = tuple(
        Elsewhere(part=LONG, seconds=s, place=f"train.py:{n}", function=f, kind=kind) for n, s, f, kind in told
    )
    silent(outside_steps, run_of(steady(), whole_run=whole(long_s=80.0, long_steps=20, elsewhere=lines)))


def test_what_a_library_does_without_a_word_for_it_may_be_the_step() -> None:
    """Longer batches: `Trainer.training_step()` has most of the long steps, and what a library names is still other work."""
    step = Elsewhere(part=LONG, seconds=80.0, function="Trainer.training_step", library="transformers")
    silent(outside_steps, run_of(steady(), whole_run=whole(long_s=80.0, long_steps=200, elsewhere=(step,))))
    saves = replace(step, function="Saver.write", kind="checkpoint")
    assert isinstance(
        found(outside_steps, run_of(steady(), whole_run=whole(long_s=80.0, long_steps=200, elsewhere=(saves,)))),
        Finding,
    )


def test_a_batch_that_comes_late_is_part_of_its_step() -> None:
    late = Elsewhere(part=LONG, seconds=80.0, place="train.py:9", kind="data loading")
    silent(outside_steps, run_of(steady(), whole_run=whole(long_s=80.0, long_steps=20, elsewhere=(late,))))


def test_a_second_kind_of_step_is_training_too() -> None:
    """Every second step of a GAN takes the generator's backward pass besides."""
    second = Elsewhere(part=LONG, seconds=80.0, place="gan.py:40", function="backward", kind="training")
    silent(outside_steps, run_of(steady(), whole_run=whole(long_s=80.0, long_steps=500, elsewhere=(second,))))


def test_a_short_start_is_no_finding_and_a_long_one_is() -> None:
    silent(outside_steps, run_of(steady(), whole_run=whole(before_s=20.0)))
    assert isinstance(found(outside_steps, run_of(steady(), whole_run=whole(before_s=80.0))), Finding)


def test_without_the_end_of_the_block_nothing_is_judged() -> None:
    assert isinstance(outside_steps.judge(run_of(steady())), Skip)
    assert isinstance(outside_steps.judge(run_of(steady(), whole_run=whole(ended=False, between_s=80.0))), Skip)
