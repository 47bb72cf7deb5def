"""Which of the user's code is named for time without operators: a sampled line, unless the stacks show that it cannot be it."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.source_lines import UserFrames
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.facts import Facts, FrameSample, Window
from mfu_doctor.facts.whole_run import LineTime, StepCourse
from mfu_doctor.trace import Category, Trace
from tests.timeline import Timeline

STEPS, BEFORE, CHECK, AFTER = 4, 2_000, 4_000, 2_000  # microseconds
ORIGIN_NS = 1_000_000_000


def recorded(sampled: str, *, works: str = "tree.py(21): check", call: str | None = None) -> Trace:
    """Steps of two operators around 4 ms in `check()`, of which only the deep window has stacks; samples say `sampled`."""
    t = Timeline(device=None)

    def step(*, deep: bool) -> None:
        with t.step(), t.span("train.py(3): update", "python_function") if deep else t.span("aten::outer"):
            t.op("aten::mm", host=BEFORE)
            if deep:
                with t.span(works, "python_function"):
                    t.python(CHECK)
            else:
                t.python(CHECK)
            t.op("aten::addmm", host=AFTER)

    for _ in range(STEPS):
        step(deep=False)
    middle = t.now
    t.python(5_000)
    begin = t.now
    step(deep=True)
    at = ORIGIN_NS
    length = BEFORE + CHECK + AFTER
    frames = tuple(
        FrameSample(time_ns=at + (i * length + BEFORE + CHECK // 2) * 1000, place=sampled, call=call)
        for i in range(STEPS)
    )
    windows = (
        Window(kind="timing", start_ns=at, end_ns=at + middle * 1000, steps=STEPS),
        Window(kind="shapes", start_ns=at + begin * 1000, end_ns=at + t.now * 1000, steps=1),
    )
    return replace(t.trace(), origin_ns=at, facts=Facts(windows=windows, frames=frames))


@pytest.mark.parametrize(
    ("sampled", "named"),
    [
        ("tree.py:24", "tree.py:24"),  # a line of the function that the stacks show: it is the more exact one
        ("train.py:62", "tree.py:21"),  # a sampler waits for its turn and sees the thread after the function has ended
        ("tree.py:9", "tree.py:21"),
    ],
)
def test_a_sampled_line_outside_of_the_function_that_ran_is_wrong(sampled: str, named: str) -> None:
    run = Run(recorded(sampled))
    spot = run.python_at(union(run.steps.start, run.steps.end) - run.activity.busy())
    assert spot is not None
    assert (spot.place, spot.function) == (
        named,
        "check",
    )  # of many short lines one that was seen says less than the function


def in_depth(*looks: LineTime, main: str = "train.py(3): main", works: str = "replay.py(53): sample") -> Trace:
    """Short steps with 2 ms of `works` between two operators, which nobody looked at; stacks make all other Python long.

    `looks` are at the steps of the whole run, which may not be known yet.
    """
    t = Timeline(device=None)

    def step(*, deep: bool) -> None:
        with t.step(), t.span(main, "python_function") if deep else nullcontext():
            t.op("aten::mm", host=1_000)
            with t.span(works, "python_function") if deep else nullcontext():
                t.python(2_000)
            t.op("Optimizer.step#SGD.step", host=10)
            for _ in range(10):
                t.op("aten::addmm", host=100)
                with (
                    t.span("torch/nn/modules/module.py(1782): _call_impl", "python_function") if deep else nullcontext()
                ):
                    t.python(700 if deep else 20)

    for _ in range(STEPS):
        step(deep=False)
    middle = t.now
    t.python(5_000)
    begin = t.now
    step(deep=True)
    at = ORIGIN_NS
    windows = (
        Window(kind="timing", start_ns=at, end_ns=at + middle * 1000, steps=STEPS),
        Window(kind="shapes", start_ns=at + begin * 1000, end_ns=at + t.now * 1000, steps=1),
    )
    course = StepCourse(steps=1, parts_s=(0.004,) * 3, lines=looks) if looks else None
    return replace(t.trace(), origin_ns=at, facts=Facts(windows=windows, course=course))


def long_gaps(run: Run) -> Intervals:
    between = union(run.steps.start, run.steps.end) - run.activity.busy()
    return Intervals(between.start[between.lengths > 200_000], between.end[between.lengths > 200_000])


def test_the_function_of_a_gap_is_that_of_the_like_gap_however_long_stacks_make_the_rest() -> None:
    run = Run(in_depth())
    spot = run.python_at(long_gaps(run))
    assert spot is not None
    assert (spot.function, spot.place) == ("sample", "replay.py:53")
    assert run.spent_at(long_gaps(run)) == spot


def test_what_the_stacks_name_has_the_line_that_was_seen_in_the_steps_of_the_run() -> None:
    looks = (("train.py:9", 0.5), ("replay.py:54", 1.9), ("replay.py:56", 0.4))
    run = Run(in_depth(*(LineTime(place=place, short_s=took, long_s=took) for place, took in looks)))
    spot = run.python_at(long_gaps(run))
    assert spot is not None
    assert spot.spelled == "sample() at replay.py:54"


def test_what_a_library_that_trains_does_besides_is_not_named() -> None:
    fit = LineTime(place="train.py:9", short_s=1.0, long_s=1.0, function="fit", library="lightning")
    names = {"main": "lightning/loops/fit.py(3): fit", "works": "lightning/loader.py(72): __next__"}
    run = Run(in_depth(fit, **names))
    assert run.trainers == {"lightning.fit"}
    assert run.python_at(long_gaps(run)) is None


def test_a_function_whose_time_is_on_many_lines_keeps_its_own() -> None:
    run = Run(in_depth(*(LineTime(place=f"replay.py:{n}", short_s=1.0, long_s=1.0) for n in (54, 55, 56))))
    spot = run.python_at(long_gaps(run))
    assert spot is not None
    assert spot.place == "replay.py:53"


def test_a_gap_around_the_border_of_two_steps_is_at_both_ends_of_the_one_with_stacks() -> None:
    t = Timeline(device=None)
    for deep in (False, False, True):
        with t.step():
            with t.span("env.py(7): act", "python_function") if deep else nullcontext():
                t.python(900)
            t.op("aten::mm", host=1_000)
            with t.span("log.py(5): write", "python_function") if deep else nullcontext():
                t.python(100)
    at = ORIGIN_NS
    windows = (
        Window(kind="timing", start_ns=at, end_ns=at + 4_000_000 - 1, steps=2),
        Window(kind="shapes", start_ns=at + 4_000_000, end_ns=at + t.now * 1000, steps=1),
    )
    run = Run(replace(t.trace(), origin_ns=at, facts=Facts(windows=windows)))
    spot = run.python_at(long_gaps(run))
    assert spot is not None
    assert spot.place == "env.py:7"


def test_what_the_recorder_does_in_the_window_with_stacks_fills_no_gap_of_the_program() -> None:
    """A gap around the border of two steps has our hook of the optimizer in it, which calls what the program gave to it."""
    t, own, given = Timeline(device=None), "mfu_doctor/capture/loop/hooks.py(159): _after", "train.py(30): lr"
    for deep in (False, False, True):
        with t.step(), t.span("train.py(3): main", "python_function") if deep else nullcontext():
            with t.span("replay.py(53): sample", "python_function") if deep else nullcontext():
                t.python(300)
            t.op("aten::mm", host=1_000)
            with t.span(own, "python_function") if deep else nullcontext():
                t.python(600 if deep else 10)
                with t.span(given, "python_function") if deep else nullcontext():
                    t.python(20)
    at, length = ORIGIN_NS, 2 * (300 + 1_000 + 30)
    windows = (
        Window(kind="timing", start_ns=at, end_ns=at + length * 1000 - 1, steps=2),
        Window(kind="shapes", start_ns=at + length * 1000, end_ns=at + t.now * 1000, steps=1),
    )
    run = Run(replace(t.trace(), origin_ns=at, facts=Facts(windows=windows)))
    spot = run.python_at(long_gaps(run))
    assert spot is not None
    assert spot.spelled == "sample() at replay.py:53"


def called(*lines: str, operators: tuple[str, ...]) -> Run:
    """Steps of these operators in a function whose stacks have its begin; each is seen at its line in the middle."""
    t, at = Timeline(device=None), ORIGIN_NS
    frames = []
    for _ in range(STEPS):
        with t.step(), t.span("graph.py(36): propagate", "python_function"):
            for line, name in zip(lines, operators, strict=True):
                frames.append(FrameSample(time_ns=at + (t.now + BEFORE // 2) * 1000, place=line))
                t.op(name, host=BEFORE)
    return Run(replace(t.trace(), origin_ns=at, facts=Facts(frames=tuple(frames))))


def places(run: Run, name: str) -> set[str | None]:
    rows = run.trace.rows(Category.CPU_OP)
    return set(run.places(rows[[run.trace.name_of(row) == name for row in rows.tolist()]]))


def test_the_line_of_an_operator_is_named_and_not_the_def_of_its_function() -> None:
    run = called("graph.py:38", "graph.py:39", operators=("aten::diag", "aten::mm"))
    assert places(run, "aten::mm") == {"graph.py:39"}
    assert places(run, "aten::diag") == {"graph.py:38"}


def test_an_operator_on_two_lines_of_a_function_keeps_the_functions_own() -> None:
    run = called("graph.py:38", "graph.py:39", operators=("aten::mm", "aten::mm"))
    assert places(run, "aten::mm") == {"graph.py:36"}


def test_a_sample_outside_of_the_function_is_not_its_line() -> None:
    run = called("graph.py:20", "other.py:39", operators=("aten::diag", "aten::mm"))
    assert places(run, "aten::diag") == places(run, "aten::mm") == {"graph.py:36"}


def test_a_line_is_in_the_last_function_that_begins_before_it() -> None:
    frames = UserFrames({0: "a.py:3", 1: "a.py:21", 2: "b.py:5"}, {})
    assert frames.is_within("a.py:24", "a.py:21")
    assert frames.is_within("a.py:20", "a.py:3")
    assert not frames.is_within("a.py:24", "a.py:3")
    assert not frames.is_within("b.py:24", "a.py:21")
    assert not frames.is_within("a.py:2", "a.py:3")


@pytest.mark.parametrize(
    ("call", "place"),
    [
        ("psutil.cpu_percent", "train.py:62"),
        ("csv.writerow", "psutil/__init__.py:1789"),
        (None, "psutil/__init__.py:1789"),
    ],
)
def test_a_function_of_a_library_is_at_the_line_that_calls_the_library(call: str | None, place: str) -> None:
    run = Run(recorded("train.py:62", works="psutil/__init__.py(1789): cpu_percent", call=call))
    spot = run.python_at(union(run.steps.start, run.steps.end) - run.activity.busy())
    assert spot is not None
    assert (spot.place, spot.function) == (place, "cpu_percent")


def test_a_function_of_a_library_that_was_not_seen_in_the_recording_is_at_the_line_of_the_whole_run() -> None:
    looks = (
        LineTime(place="train.py:8", short_s=0.001, long_s=0.0, function="send", library="psutil"),
        LineTime(place="train.py:9", short_s=0.001, long_s=0.0, function="cpu_percent", library="psutil"),
    )
    run = Run(in_depth(*looks, works="psutil/__init__.py(1789): cpu_percent"))
    spot = run.python_at(long_gaps(run))
    assert spot is not None
    assert (spot.place, spot.function) == ("train.py:9", "cpu_percent")
