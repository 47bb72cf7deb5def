"""The account of a whole block: what its steps took, what lay between them, and where that was."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.edges import CUT, Edge
from mfu_doctor.capture.loop.run_clock import RunClock
from mfu_doctor.capture.loop.run_sampler import RunSampler
from mfu_doctor.capture.loop.run_watch import RunWatch
from mfu_doctor.capture.loop.step_times import StepTimes
from mfu_doctor.capture.loop.where import Call, Where, place_of, stack_of
from mfu_doctor.facts.whole_run import BEFORE, BETWEEN, LONG, WholeRun

MS = 1_000_000
S = 1_000 * MS


def close(value: float, expected: float) -> bool:
    return abs(value - expected) < 1e-6


def total(run: WholeRun) -> float:
    parts = run.before_s + run.between_s + run.long_s + run.startup_s + run.after_s + run.recorder_s
    return run.steps_s + parts


def times_of(*ms: float) -> StepTimes:
    times = StepTimes()
    for took in ms:
        times.add(int(took * MS), int(took * MS) // 2)
    return times


def test_an_evaluation_between_steps_is_no_step_and_is_not_lost() -> None:
    """Steps of 30 ms with 60 ms of evaluation after each fourth one: only a third of the time is in what was timed before."""
    clock, now = RunClock(0), 2 * S
    clock.act(Edge.VOID | Edge.BEGIN, now, plain=True)
    for step in range(1, 41):
        now += 30 * MS
        clock.act(Edge.HOLD, now, plain=True)
        if step % 4 == 0:
            clock.act(Edge.END, now + MS, plain=True)
            now += 60 * MS
            clock.act(Edge.BEGIN, now, plain=True)
        else:
            clock.act(CUT, now, plain=True)
    run = clock.account(now, skipped=0, ended=True)
    assert (run.steps, run.gaps) == (40, 10)
    assert close(run.before_s, 2.0)
    assert close(run.steps_s, 40 * 0.030)
    assert close(run.between_s, 10 * 0.060)
    assert close(total(run), run.wall_s)


def test_a_rollout_inside_every_eighth_step_is_what_long_steps_take_more() -> None:
    """A loop without a DataLoader: its steps end at the optimizer, so that the rollout lies in the step after it."""
    clock, now = RunClock(0), 0
    clock.act(CUT, now, plain=True)
    for step in range(80):
        now += (700 if step % 8 == 7 else 10) * MS
        clock.act(CUT, now, plain=step not in range(16, 24))
    run = clock.account(now, skipped=0, ended=True)
    assert (run.steps, run.long_steps, run.profiled_steps) == (80, 10, 8)
    assert close(run.long_s, 10 * 0.690)
    assert close(run.steps_s, 80 * 0.010)
    assert close(total(run), run.wall_s)


def test_the_work_of_the_recorder_belongs_to_nothing_of_the_user() -> None:
    clock = RunClock(0)
    clock.act(CUT, 1 * S, plain=True)
    clock.worked(1 * S, 4 * S)  # writing the file, for instance
    clock.act(CUT, 5 * S, plain=True)
    run = clock.account(5 * S, skipped=0, ended=True)
    assert (run.recorder_s, run.steps_s, run.before_s) == (3.0, 1.0, 1.0)
    assert run.own_s == 2.0


def test_steps_that_were_none_lie_before_the_first_one() -> None:
    clock = RunClock(0)
    for at in (1, 2, 3):
        clock.act(CUT, at * S, plain=True)
    clock.act(Edge.RESTART | CUT, 4 * S, plain=True)
    clock.act(CUT, 5 * S, plain=True)
    run = clock.account(5 * S, skipped=0, ended=True)
    assert (run.steps, run.before_s, run.steps_s) == (1, 4.0, 1.0)


def test_a_step_that_is_over_before_its_cut_counts_when_the_block_ends() -> None:
    clock = RunClock(0)
    clock.act(CUT, 1 * S, plain=True)
    clock.act(Edge.HOLD, 2 * S, plain=True)
    clock.close()
    run = clock.account(9 * S, skipped=0, ended=True)
    assert (run.steps_s, run.after_s) == (1.0, 7.0)


def test_the_thread_is_looked_at_outside_of_usual_steps_only() -> None:
    clock = RunClock(0)
    assert clock.unusual(MS) == BEFORE
    clock.act(CUT, 0, plain=True)
    for step in range(1, 9):
        clock.act(CUT, step * 10 * MS, plain=True)
    assert clock.unusual(85 * MS) is None
    assert clock.unusual(100 * MS) == LONG
    clock.act(Edge.END, 100 * MS, plain=True)
    assert clock.unusual(101 * MS) == BETWEEN
    clock.own = True
    assert clock.unusual(101 * MS) is None


def test_a_first_epoch_without_a_cache_is_told_apart() -> None:
    """Sixteen steps of 160 ms, then 144 of 60 ms: the run takes 60 ms a step once it has settled."""
    times = times_of(*[160] * 16, *[60] * 144)
    startup, slow_ns = times.startup(5)
    steps, waits = times.settled(startup, 1000)
    assert (startup, slow_ns) == (16, 16 * 100 * MS)
    assert (len(steps), set(steps), set(waits)) == (144, {0.060}, {0.030})


def test_a_run_whose_every_fourth_step_is_long_has_no_slow_beginning() -> None:
    times = times_of(*[400, 100, 100, 100] * 20)
    assert times.startup(0)[0] <= 1
    assert times.beyond(0, 0) == (20, 20 * 300 * MS)


def test_steps_that_grow_in_each_epoch_are_not_long_and_a_checkpoint_among_them_is() -> None:
    epoch = [26 + 0.24 * step for step in range(216)]
    times = times_of(*epoch, *epoch)
    assert times.beyond(0, 0) == (0, 0)
    epoch[40] = 300
    long, excess_ns = times_of(*epoch, *epoch).beyond(0, 0)
    assert long == 2
    assert abs(excess_ns - 2 * 250 * MS) < 20 * MS


def test_the_course_of_the_steps_leaves_out_the_beginning_and_single_long_ones() -> None:
    times = times_of(*[90] * 4, *[10, 10, 50, 10] * 3, *[20] * 12)
    assert times.course(4, 6) == (4, 4, tuple(ms * MS for ms in (10, 10, 10, 20, 20, 20)))


def test_the_course_of_a_run_too_long_to_keep_is_known_by_its_means() -> None:
    times = StepTimes()
    for step in range(100_000):
        times.add(10 * MS + step * 100, 0)
    first, size, parts = times.course(5, 128)
    assert first % size == 0
    assert 128 <= len(parts) <= 256
    assert all(b - a == size * 100 for a, b in itertools.pairwise(parts))


def test_checkpoints_of_a_slow_beginning_are_no_slowness() -> None:
    times = times_of(*[*[20] * 9, 170] * 4, *[*[10] * 9, 160] * 6)
    startup, slow_ns = times.startup(0)
    assert startup == 39
    assert slow_ns == startup * 10 * MS
    assert times.beyond(startup, 0) == (10, (9 * 150 + 160) * MS)  # the fourth one follows the beginning


def test_a_run_of_a_million_steps_needs_no_more_memory_than_one_of_thousands() -> None:
    times = StepTimes()
    for step in range(200_000):
        times.add(30 * MS if step < 20_000 else 10 * MS, 0)
    assert len(times._steps) == 4096
    assert len(times._cells) <= 256
    startup, slow_ns = times.startup(5)
    assert abs(startup - 20_000) <= 1024  # a cell
    assert abs(slow_ns - 20_000 * 20 * MS) <= 0.06 * slow_ns
    assert set(times.settled(startup, 1000)[0]) == {0.010}


def test_the_latest_steps_come_in_their_order() -> None:
    times = StepTimes()
    for step in range(5000):
        times.add((step + 1) * MS, 0)
    steps, _ = times.settled(10, 3)
    assert steps == (4.998, 4.999, 5.0)


LOOP = (Call("run.py", "<module>", 60), Call("run.py", "fit", 33))
WAYS = [tuple(call.name for call in LOOP)]


def shown(file: str) -> str | None:
    return None if file.startswith("/lib/") else file


def test_the_line_that_calls_the_evaluation_is_named_and_not_those_of_its_model() -> None:
    inside = (
        LOOP[0],
        Call("run.py", "fit", 38),
        Call("/lib/torch/utils/_contextlib.py", "decorate_context", 120, passes_on=True),
        Call("run.py", "validate", 27),
        Call("/lib/torch/nn/module.py", "_call_impl", 1700),
        Call("model.py", "forward", 12),
    )
    assert place_of(inside, WAYS, shown) == Where("run.py:38", "validate", "evaluation")


def test_a_checkpoint_that_a_trainer_of_a_library_writes_has_no_line_of_the_user() -> None:
    """`trainer.fit()` is the training itself: it is not named for what the trainer does besides."""
    fit, trainer = Call("run.py", "<module>", 60), Call("/lib/trainer.py", "_loop", 500)
    ways = [(fit.name, trainer.name)]
    stack = (fit, Call("/lib/trainer.py", "_loop", 510), Call("/lib/trainer.py", "_save_checkpoint", 700))
    assert place_of(stack, ways, shown) == Where(None, "_save_checkpoint", "checkpoint")
    callback = (*stack[:2], Call("run.py", "on_epoch_end", 20), Call("/lib/plot.py", "draw", 3))
    assert place_of(callback, ways, shown) == Where("run.py:20", "draw", None)


def test_what_a_trainer_does_by_itself_has_the_name_that_its_library_gives_it() -> None:
    """The class tells what it is where the method does not, and the first method that is told is the one to name."""
    package = "/lib/python3.11/site-packages/trainers/"
    fit, loop = Call("run.py", "<module>", 60), Call(f"{package}loop.py", "run", 500, owner="Loop")
    stack = (
        fit,
        loop,
        Call(f"{package}call.py", "_call_hooks", 12),
        Call(f"{package}model_checkpoint.py", "on_batch_end", 310, owner="ModelCheckpoint"),
        Call("/lib/python3.11/site-packages/torch/serialization.py", "save", 900),
    )
    told = Where(None, "ModelCheckpoint.on_batch_end", "checkpoint", "trainers")
    assert place_of(stack, [(fit.name, loop.name)], shown) == told
    evaluates = (
        fit,
        loop,
        Call(f"{package}loop.py", "on_advance_end", 300, owner="EpochLoop"),
        Call(f"{package}evaluation.py", "run", 20, owner="_EvaluationLoop"),
        Call("run.py", "validation_step", 33),
        Call("/lib/python3.11/site-packages/torch/nn/modules/module.py", "_call_impl", 1700),
        Call("run.py", "forward", 12),
    )
    told = Where(None, "_EvaluationLoop.run", "evaluation", "trainers")
    assert place_of(evaluates, [(fit.name, loop.name)], shown) == told
    callback = (*evaluates[:3], Call("run.py", "on_train_batch_end", 20), Call("/lib/plot.py", "draw", 3))
    assert place_of(callback, [(fit.name, loop.name)], shown).place == "run.py:20"


def test_the_way_to_an_evaluation_is_not_a_way_to_the_steps() -> None:
    """A batch is fetched for it as for a step; what a trainer does there was taken for the step itself."""
    sampler = RunSampler(0, None, RunClock(0), lambda call: call())

    def at(*edges: int) -> None:
        for edge in edges:
            sampler.edge(edge)

    def train() -> None:
        at(Edge.BEGIN, CUT, Edge.END)

    def evaluate() -> None:
        at(Edge.BEGIN, Edge.VOID | Edge.PAUSE)

    train()
    evaluate()
    ways = {function for way in sampler._ways for _, function in way}
    assert "train" in ways
    assert "evaluate" not in ways


def test_what_usual_steps_do_too_is_no_other_work_in_long_ones() -> None:
    """Batches of varying lengths, and a function of the user's that makes a step of each; plots come every twentieth step."""
    sampler = RunSampler(0, None, RunClock(0), lambda call: call())
    step, loss, plot = (Where(f"run.py:{n}", name) for n, name in ((30, "one_step"), (31, "regularizer"), (32, "plot")))
    sampler._seen = {(LONG, step): 70 * MS, (LONG, loss): 10 * MS, (LONG, plot): 20 * MS}
    sampler._seen |= {("usual", step): 700 * MS, ("usual", loss): 290 * MS, ("usual", plot): 10 * MS}
    account = WholeRun(wall_s=100.0, ended=True, steps=100, steps_s=50.0, long_steps=20, long_s=10.0)
    kinds = {e.function: e.kind for e in sampler.elsewhere(account)}
    assert kinds == {"one_step": "training", "regularizer": "training", "plot": None}


def test_looks_without_a_length_are_no_part_of_the_account() -> None:
    """Two looks on one tick of the clock."""
    sampler = RunSampler(0, None, RunClock(0), lambda call: call())
    sampler._seen = {(LONG, Where("run.py:32", "plot")): 0}
    assert (
        sampler.elsewhere(WholeRun(wall_s=100.0, ended=True, steps=100, steps_s=50.0, long_steps=20, long_s=10.0)) == ()
    )


def test_a_logarithm_is_not_logging() -> None:
    def kind(function: str) -> str | None:
        stack = (LOOP[0], Call("run.py", "fit", 40), Call("/lib/python3.11/site-packages/x/y.py", function, 1))
        return place_of(stack, WAYS, shown).kind

    names = ("log", "log_metrics", "_maybe_log", "log_prob", "log_softmax", "logits", "make_log")
    assert [kind(name) for name in names] == [*["logging"] * 3, *[None] * 4]


def test_a_method_is_called_with_its_class() -> None:
    class Saver:
        def write(self) -> str | None:
            return stack_of(sys._getframe(), own="/nothing")[-1].owner

    def alone() -> str | None:
        return stack_of(sys._getframe(), own="/nothing")[-1].owner

    assert (Saver().write(), alone()) == ("Saver", None)


def test_what_a_model_calls_within_itself_does_not_tell_why_it_is_called() -> None:
    """A decoder whose layers save or checkpoint something still generates text."""
    stack = (
        *LOOP[:1],
        Call("run.py", "fit", 40),
        Call("/lib/torch/utils/_contextlib.py", "decorate_context", 120, passes_on=True),
        Call("/lib/utils/deprecation.py", "wrapped_func", 172, passes_on=True),
        Call("/lib/generation/utils.py", "generate", 2500),
        Call("/lib/torch/nn/modules/module.py", "_call_impl", 1700),
        Call("/lib/modeling.py", "checkpoint_hidden_states", 80),
    )
    assert place_of(stack, WAYS, shown) == Where("run.py:40", "generate", "generation")
    only_model = (*stack[:2], *stack[5:])
    assert place_of(only_model, WAYS, shown).kind == "training"


def test_a_name_with_two_kinds_of_work_in_it_tells_neither() -> None:
    stack = (*LOOP[:1], Call("run.py", "fit", 41), Call("/lib/trainer.py", "_maybe_save_or_evaluate", 3))
    assert place_of(stack, WAYS, shown).kind is None
    evaluating = (*stack, Call("/lib/trainer.py", "evaluate", 9))
    assert place_of(evaluating, WAYS, shown) == Where("run.py:41", "evaluate", "evaluation")


def test_a_wrapper_of_a_decorator_is_not_the_function_that_a_line_calls() -> None:
    seen: list[tuple[Call, ...]] = []

    def timed(function: Callable[..., object]) -> Callable[..., object]:
        def timing(*arguments: object, **named: object) -> object:
            return function(*arguments, **named)

        return timing

    @timed
    def validate() -> None:
        seen.append(stack_of(sys._getframe(), own="/nothing"))

    validate()
    passing = {call.function for call in seen[0] if call.passes_on}
    assert passing == {"timing"}
    assert not seen[0][-1].passes_on


def test_a_line_of_the_step_itself_is_known_as_such() -> None:
    stack = (*LOOP, Call("/lib/torch/_tensor.py", "backward", 600), Call("/lib/torch/autograd/graph.py", "_run", 1))
    assert place_of(stack, WAYS, shown) == Where("run.py:33", "backward", "training")


def test_a_library_that_steps_for_the_user_trains() -> None:
    ways = [(LOOP[0].name, ("/lib/trainer.py", "_loop"))]
    stack = (LOOP[0], Call("/lib/trainer.py", "_loop", 9), Call("/lib/torch/optim/adam.py", "step", 200))
    assert place_of(stack, ways, shown).kind == "training"
    inner = (LOOP[0], Call("/lib/torch/optim/optimizer.py", "step", 9))
    assert place_of(inner, [(LOOP[0].name, ("/lib/torch/optim/optimizer.py", "step"))], shown).kind == "training"


def test_a_trainer_that_calls_the_model_by_its_own_methods_trains() -> None:
    """Samples of varying lengths: Trainer.training_step() was taken for other work in the long steps."""
    package = "/lib/python3.11/site-packages/trainers/trainer.py"
    loop = Call(package, "_loop", 9, owner="Trainer")
    ways = [(LOOP[0].name, loop.name)]
    model = Call("/lib/python3.11/site-packages/torch/nn/modules/module.py", "_call_impl", 1700)
    step = (Call(package, "training_step", 20, owner="Trainer"), Call(package, "compute_loss", 30, owner="Trainer"))
    assert place_of((LOOP[0], loop, *step, model), ways, shown).kind == "training"
    evaluates = Call(package, "evaluate", 40, owner="Trainer")
    assert place_of((LOOP[0], loop, evaluates, *step[1:], model), ways, shown).kind == "evaluation"
    plots = Call(package, "plot", 50, owner="Trainer")
    assert place_of((LOOP[0], loop, plots), ways, shown).kind is None


def test_before_the_first_step_the_innermost_line_of_the_user_is_named() -> None:
    stack = (Call("run.py", "<module>", 60), Call("data.py", "tokenize", 12), Call("/lib/json.py", "loads", 3))
    assert place_of(stack, [], shown) == Where("data.py:12", "loads", None)


def test_another_loop_of_other_work_is_not_what_follows_the_last_step() -> None:
    """A second model is trained in the same block: its steps are not the first one's, and not an end without steps either."""
    watch = RunWatch(Notes(), None)
    start = watch.clock.began_ns
    watch.clock.act(CUT, start, plain=True)
    watch.clock.act(CUT, start + MS, plain=True)
    watch.turn_away()
    watch.end()
    run = watch.account(0)
    assert (run.steps, run.ended) == (1, False)
    assert run.after_s < 1.0
    assert run.wall_s <= (watch._left_ns or 0) - start
