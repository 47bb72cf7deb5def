"""Which of the user's code is named for time without operators: a sampled line, unless the stacks show that it cannot be it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.source_lines import UserFrames
from mfu_doctor.arrays.intervals import union
from mfu_doctor.facts import Facts, FrameSample, Window
from mfu_doctor.trace import Category, Trace
from tests.timeline import Timeline

STEPS, BEFORE, CHECK, AFTER = 4, 2_000, 4_000, 2_000  # microseconds
ORIGIN_NS = 1_000_000_000


def recorded(sampled: str) -> Trace:
    """Steps of two operators around 4 ms in `check()`, of which only the deep window has stacks; samples say `sampled`."""
    t = Timeline(device=None)

    def step(*, deep: bool) -> None:
        with t.step(), t.span("train.py(3): update", "python_function") if deep else t.span("aten::outer"):
            t.op("aten::mm", host=BEFORE)
            if deep:
                with t.span("tree.py(21): check", "python_function"):
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
        FrameSample(time_ns=at + (i * length + BEFORE + CHECK // 2) * 1000, place=sampled) for i in range(STEPS)
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
    assert spot.place == named


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
