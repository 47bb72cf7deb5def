"""long-steps: a step that stops for other work is priced per recorded step."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.step_windows import StepKind
from mfu_doctor.facts import Facts
from mfu_doctor.rules.host.long_steps import long_steps
from tests.rules.drawing import compute
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def saving(pause: int) -> Timeline:
    drawn = Timeline()
    for step in range(12):
        with drawn.step():
            compute(drawn, 1_000)
            drawn.sync()
            if step == 6:
                drawn.python(pause)
    return drawn


def test_a_step_that_writes_a_checkpoint_is_priced_per_recorded_step() -> None:
    """20 ms in one of ten steps are 2 ms a step beside one of 1 ms: 38 times less often leave 5 % of the run to it."""
    run = run_of(saving(20_000))
    price = price_us(long_steps, run)
    assert found(long_steps, run).fix == "# write checkpoints and logs 38 times less often, or from another thread"
    assert price.low_ns == close(20_000 / 10 / 2)
    assert price.mid_ns == close(20_000 / 10 * 37 / 38)
    assert price.high_ns == close(20_000 / 10)


def test_a_longer_recording_of_the_same_run_has_the_same_evidence() -> None:
    """`compare` takes a time that is half of what it was for a fix that was made: it must not follow the recording's length."""
    short, long = (found(long_steps, run_of(pausing(times))).evidence for times in (1, 2))
    assert {e.name: e.value for e in short if e.unit == "s"} == {
        e.name: pytest.approx(e.value, rel=0.01) for e in long if e.unit == "s"
    }


def pausing(times: int) -> Timeline:
    """Two warm-up steps, then one of ten steps pauses for 20 ms, so many times over."""
    drawn = Timeline()
    for step in range(-2, 10 * times):
        with drawn.step():
            compute(drawn, 1_000)
            drawn.sync()
            if step % 10 == 5:
                drawn.python(20_000)
    return drawn


def sampling(pause: int, *, rare: bool) -> Timeline:
    """Every step calls sample() and, if `rare` is not set, one of them is long there; else that one also calls save()."""
    drawn = Timeline()
    for step in range(12):
        with drawn.step():
            compute(drawn, 1_000)
            drawn.sync()
            with drawn.span("memory.py(40): sample", "python_function"):
                drawn.python(20 if rare or step != 6 else pause)
            if rare and step == 6:
                with drawn.span("train.py(70): save", "python_function"):
                    drawn.python(pause)
    return drawn


def test_what_usual_steps_call_too_is_not_called_less_often() -> None:
    """Each update needs its sample(): "call sample() 10 times less often" would have been another training."""
    said = found(long_steps, run_of(sampling(20_000, rare=False)))
    assert said.place == "memory.py:40"
    assert "times less often" not in said.fix
    assert "it runs in usual steps too; find what it does more in long ones" in said.fix
    rare = found(long_steps, run_of(sampling(20_000, rare=True)))
    assert rare.fix.startswith("# call save() at train.py:70 ")
    assert "times less often" in rare.fix


def passes(evaluate: str | None) -> Timeline:
    """One step in five has ten more passes of the model, in this function if one is given."""
    drawn, forward = Timeline(), "model.py(9): forward"
    for step in range(7):
        with drawn.step():
            with drawn.span(forward, "python_function"):
                for name in ("aten::mm", "aten::relu", "aten::mm", "aten::mse_loss"):
                    drawn.op(name, kernel=250, host=250)
            drawn.op("aten::add_", kernel=50, host=50)
            with drawn.span(evaluate if evaluate and step == 4 else forward, "python_function"):
                for _ in range(10 if step == 4 else 0):
                    with drawn.span(forward, "python_function"):
                        drawn.op("aten::mm", kernel=250, host=650)
                        drawn.op("aten::mse_loss", kernel=250, host=250)
                    drawn.item()
    return drawn


def test_a_function_of_all_steps_is_not_what_an_evaluation_calls_less_often() -> None:
    """forward() has most of an evaluation, and all of the training: what calls it there is what can be rarer."""
    assert "# evaluate() at train.py:50: " in found(long_steps, run_of(passes("train.py(50): evaluate"))).fix
    unnamed = found(long_steps, run_of(passes(None))).fix
    assert unnamed.startswith(
        "# forward() at model.py:9: it runs in usual steps too; do what it does more in long ones "
    )


def rollouts(*, draws: bool = True, keeps: bool = True, takes: bool = True) -> Timeline:
    """One step in five acts eight times before it learns: at random, into a buffer that all steps take rows of."""
    drawn = Timeline(device=None)
    for step in range(10):
        with drawn.step():
            for _ in range(8 if step % 5 == 4 else 0):
                drawn.op("aten::linear", host=200)
                drawn.op("aten::normal" if draws else "aten::argmax", host=50)
                drawn.op("aten::select", host=5)
                drawn.op("aten::copy_" if keeps else "aten::item", host=5)
            drawn.op("aten::index" if takes else "aten::unbind", host=20)
            for name in ("aten::linear", "aten::mse_loss", "aten::add_"):
                drawn.op(name, host=200)
    return drawn


def acting(*, draws: bool = True, keeps: bool = True, takes: bool = True) -> Run:
    return run_of(rollouts(draws=draws, keeps=keeps, takes=takes))


def test_what_usual_steps_may_learn_from_is_not_called_less_often() -> None:
    """PPO was told to do its rollouts 37 times less often: it would learn from nothing."""
    assert found(long_steps, acting()).withhold
    assert not any(
        found(long_steps, run).withhold for run in (acting(draws=False), acting(keeps=False), acting(takes=False))
    )


def test_equal_steps_are_not_long() -> None:
    silent(long_steps, run_of(saving(0)))


def evaluating(steps: int, every: int, *, device: bool = True, slower: bool = False) -> Timeline:
    """Every so many steps, a pass over other batches whose losses are read; `slower`: the machine stops for as long instead."""
    drawn, kernel = (Timeline(), 250) if device else (Timeline(device=None), None)
    for step in range(steps):
        last = step % every == every - 1
        with drawn.step():
            drawn.fetch(50)
            for name in ("aten::mm", "aten::relu", "aten::mm", "aten::mse_loss"):
                drawn.op(name, kernel=kernel, host=250 if not (slower and last) else 2_750)
            drawn.op("aten::add_", kernel=kernel, host=50)
            for _ in range(10 if last and not slower else 0):
                drawn.fetch(50)
                drawn.op("aten::mm", kernel=kernel, host=250)
                drawn.op("aten::mse_loss", kernel=kernel, host=250)
                if device:
                    drawn.item()
                drawn.python(450)
    return drawn


@pytest.mark.parametrize("device", [True, False])
def test_an_evaluation_in_one_of_four_recorded_steps_is_found_and_priced(device: bool) -> None:
    """What mfu-doctor run records by default: five steps, of which the first is left out."""
    run = run_of(evaluating(7 if device else 5, 5 if device else 4, device=device))
    judged = int(run.steps.steady.sum())
    assert judged == (5 if device else 4)
    finding = found(long_steps, run)
    assert "that usual steps do not have" in str(finding.detail)
    assert "loading batches takes" in str(finding.detail)
    longest, usual = float(run.steps.duration.max()), float(run.steps.duration[run.steps.median])
    assert longest - usual > 10 * (50 + 250 + 250 + 450) * 1_000 - 1
    assert "times less often, or on less data" in finding.fix
    price = price_us(long_steps, run)
    assert price.high_ns == close((longest - usual) / 1_000 / judged)
    assert price.low_ns < price.mid_ns < price.high_ns


def test_a_machine_that_is_slow_for_a_step_is_no_other_work() -> None:
    run = run_of(evaluating(5, 4, device=False, slower=True))
    assert not run.extra_work.count
    silent(long_steps, run)


def test_a_live_step_with_work_of_its_own_is_judged_though_no_timed_step_was_as_long() -> None:
    """A rollout of seconds between steps of milliseconds is the program's own; a slow machine is not."""
    timed = Facts(timed_steps_s=(0.0011,) * 5)
    own = Run(replace(evaluating(7, 5).trace(), facts=timed))
    assert own.steps.kind.tolist()[1:] == [StepKind.STEADY] * 5
    assert own.mean_step.long == 1
    slow = Run(replace(evaluating(6, 5, device=False, slower=True).trace(), facts=timed))
    assert StepKind.DISTURBED in slow.steps.kind.tolist()


def test_where_all_steps_vary_work_of_its_own_still_tells_a_long_step() -> None:
    """On a busy machine no step is far from the others, and yet one of them evaluates."""
    drawn = Timeline(device=None)
    for step, host in enumerate((300, 500, 900, 500, 1_000, 400)):
        with drawn.step():
            for name in ("aten::mm", "aten::relu", "aten::mm", "aten::mse_loss"):
                drawn.op(name, host=host)
            for _ in range(10 if step == 3 else 0):
                drawn.op("aten::mm", host=600)
    finding = found(long_steps, run_of(drawn))
    assert "10 operations" in str(finding.detail)
