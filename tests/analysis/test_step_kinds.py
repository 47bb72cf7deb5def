"""Which recorded steps are judged, why each other one is left out, and how much the long ones add to the mean step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mfu_doctor import diagnose
from mfu_doctor.analysis.run import Options, Run
from mfu_doctor.analysis.views.mean_step import mean_step
from mfu_doctor.analysis.views.step_kinds import with_kinds
from mfu_doctor.analysis.views.step_windows import StepKind, Steps
from mfu_doctor.arrays.intervals import EMPTY, Intervals, union
from mfu_doctor.facts import Facts
from mfu_doctor.facts.garbage import GcPause
from mfu_doctor.render import render
from mfu_doctor.result.step import LONG
from tests.timeline import Timeline

STEADY, WARM_UP, DISTURBED = StepKind.STEADY, StepKind.WARM_UP, StepKind.DISTURBED
US = 1000
MS = 1_000_000
S_PER_US = 1e-6

plain = st.integers(100, 149)  # steps that are not long against each other
long = st.integers(400, 900)  # steps that are
around = st.lists(plain, min_size=4, max_size=12)


def steps_of(took_us: Sequence[int], own: Intervals = EMPTY, timed_us: Sequence[float] = ()) -> Steps:
    """Steps of these lengths one after the other, with their kinds; `timed_us`: of a live run, without the profiler."""
    edges = np.concatenate(([0], np.cumsum(np.array(took_us, np.int64) * US)))
    start, end, none = edges[:-1], edges[1:], np.full(len(took_us), -1, np.int64)
    kind = np.zeros(len(took_us), np.int8)
    steps = Steps(np.arange(len(took_us)), start, end, start, end, none, none, kind, "ProfilerStep")
    facts = Facts(timed_steps_s=tuple(us * S_PER_US for us in timed_us)) if timed_us else None
    return with_kinds(steps, facts, own)


def inside(steps: Steps, index: int) -> Intervals:
    """All of one step's time."""
    return union(steps.start[index : index + 1], steps.end[index : index + 1])


def to_mean(steps: Steps, timed_us: Sequence[float] = ()) -> float:
    """The mean step over the median recorded one."""
    facts = Facts(timed_steps_s=tuple(us * S_PER_US for us in timed_us))
    return mean_step(steps, facts).stated_ns / float(steps.duration[steps.median])


@given(st.integers(1, 1000), st.integers(2, 20), st.booleans())
def test_of_equal_steps_only_the_first_is_left_out_and_none_is_long(took: int, count: int, live: bool) -> None:
    timed = (took,) * 9 if live else ()
    steps = steps_of((took,) * count, timed_us=timed)
    assert steps.kind.tolist() == [WARM_UP, *[STEADY] * (count - 1)]
    assert steps.note is None
    assert not steps.long.any()
    assert to_mean(steps, timed) == pytest.approx(1.0)


def test_a_step_alone_is_judged() -> None:
    assert steps_of((700,), timed_us=(100, 100, 100)).kind.tolist() == [STEADY]


@given(st.lists(long, min_size=1, max_size=4), around)
def test_long_steps_at_the_start_are_warm_up_as_long_as_half_of_the_steps_remain(
    first: list[int], rest: list[int]
) -> None:
    steps = steps_of(first + rest)
    left_out = len(first) if len(first) <= len(steps.kind) // 2 else 1
    assert steps.kind.tolist() == [WARM_UP] * left_out + [STEADY] * (len(steps.kind) - left_out)
    assert (f"the first {left_out} steps" in (steps.note or "")) == (left_out > 1)


@pytest.mark.parametrize(("took", "is_long"), [(150, False), (151, True)])
def test_a_step_is_long_from_half_more_than_the_median_on(took: int, is_long: bool) -> None:
    lengths = (100, 100, 100, took, 100, 100)
    assert steps_of(lengths).long[3] == is_long
    assert (steps_of(lengths, timed_us=(100, 100)).kind[3] == DISTURBED) == is_long
    assert (steps_of((took, took, 100, 100, 100, 100)).kind[1] == WARM_UP) == is_long


def test_where_most_steps_are_long_they_are_what_the_run_does() -> None:
    steps = steps_of((500, 500, 500, 100, 100))
    assert steps.kind.tolist() == [WARM_UP, STEADY, STEADY, STEADY, STEADY]


@given(around, st.integers(1, 11), long)
def test_a_long_step_that_no_un_profiled_one_explains_is_disturbed(rest: list[int], at: int, took: int) -> None:
    at = min(at, len(rest) - 1) + 1
    lengths = [100, *rest[: at - 1], took, *rest[at - 1 :]]
    timed = (100, 120, 149)
    steps = steps_of(lengths, timed_us=timed)
    assert np.flatnonzero(steps.kind == DISTURBED).tolist() == [at]
    assert steps.note is not None
    assert "excluded: more than 1.5 times" in steps.note
    assert mean_step(steps, Facts(timed_steps_s=(1e-4, 1.2e-4, 1.49e-4))).stated_ns == pytest.approx(123_000)


@given(around, long)
def test_a_foreign_trace_has_no_disturbed_step_and_a_long_one_counts_in_the_mean(rest: list[int], took: int) -> None:
    lengths = [100, *rest[:2], took, *rest[2:]]
    steps = steps_of(lengths)
    assert steps.kind.tolist() == [WARM_UP, *[STEADY] * (len(lengths) - 1)]
    assert np.flatnonzero(steps.long).tolist() == [3]
    assert mean_step(steps, None).stated_ns == pytest.approx(np.mean(lengths[1:]) * US)


@given(around, long, st.floats(0.55, 1.0))
def test_a_step_that_is_long_for_a_reason_of_the_runs_own_is_not_disturbed(
    rest: list[int], took: int, part: float
) -> None:
    """Compilation or a collection covers most of the surplus: the step belongs to the run, though it came only once."""
    lengths = [100, *rest[:2], took, *rest[2:]]
    timed = (100, 120, 149)
    window = inside(steps_of(lengths), 3)
    own = union(window.start, window.start + (window.lengths * part).astype(np.int64))
    steps = steps_of(lengths, own, timed)
    assert steps.steady[3]
    assert steps.long[3]


def test_a_reason_that_covers_less_than_half_of_the_surplus_explains_nothing() -> None:
    lengths = (100, 100, 100, 500, 100, 100)
    start = int(steps_of(lengths).start[3])
    own = union(np.array([start]), np.array([start + 199 * US]))
    assert steps_of(lengths, own, (100, 100)).kind[3] == DISTURBED
    own = union(np.array([start]), np.array([start + 200 * US]))
    assert steps_of(lengths, own, (100, 100)).kind[3] == STEADY


def test_un_profiled_steps_say_what_the_mean_step_is_whatever_the_recording_caught() -> None:
    timed = (100, 100, 300, 100, 100) * 2
    assert to_mean(steps_of((100,) * 8, timed_us=timed), timed) == pytest.approx(1.4)
    seldom = (100,) * 9 + (300,)
    assert to_mean(steps_of((100,) * 8, timed_us=seldom), seldom) == pytest.approx(1.2)


def test_the_mean_step_may_be_shorter_than_the_median_one() -> None:
    """Three of ten un-profiled steps are long, and yet the short ones pull the mean below the median."""
    timed = (10, 10, 10, 10, 100, 100, 100, 160, 160, 160)
    assert to_mean(steps_of((100,) * 8, timed_us=timed), timed) == pytest.approx(np.mean(timed) / 100)


@pytest.mark.parametrize("first", range(4))
def test_where_every_fourth_step_is_long_the_mean_has_one_in_four_wherever_the_recording_begins(first: int) -> None:
    lengths = [500 if i % 4 == first else 100 for i in range(19)]
    steps = steps_of([100, *lengths])
    assert mean_step(steps, None).stated_ns == pytest.approx(200 * US)
    assert mean_step(steps, None).every == 4


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=20), st.lists(st.integers(1, 1000), max_size=12))
def test_whatever_the_lengths_a_step_is_judged_and_the_mean_is_no_less_than_the_median(
    lengths: list[int], timed: list[int]
) -> None:
    steps = steps_of(lengths, timed_us=timed)
    assert steps.steady.any()
    assert steps.steady[0] == (len(lengths) == 1)
    assert mean_step(steps, None).stated_ns > 0
    assert not (steps.long & ~steps.steady).any()
    assert (steps.duration[steps.long] > LONG * steps.duration[steps.median]).all()


def drawn(kernels: Sequence[int]) -> Timeline:
    """Steps of one kernel of so many microseconds each, which the host waits for."""
    t = Timeline()
    for us in kernels:
        with t.step():
            t.op("aten::mm", kernel=us)
            t.sync()
    return t


def test_the_steps_that_the_user_asks_for_are_judged_whatever_they_look_like() -> None:
    trace = replace(drawn((900, 900, 100, 900, 100, 100, 100, 100)).trace(), facts=Facts(timed_steps_s=(1e-4,) * 3))
    assert Run(trace).steps.kind.tolist() == [WARM_UP, WARM_UP, STEADY, DISTURBED, STEADY, STEADY, STEADY]
    chosen = Run(trace, Options(steps=(0, 4))).steps
    assert chosen.kind.tolist() == [STEADY] * 4
    assert "excluded" not in (chosen.note or "")


def test_the_report_names_both_kinds_of_steps_that_it_leaves_out() -> None:
    trace = replace(drawn((900, 900, 100, 900, 100, 100, 100, 100)).trace(), facts=Facts(timed_steps_s=(1e-4,) * 3))
    report = diagnose(trace)
    assert [row.steady for row in report.steps] == [False, False, True, False, True, True, True]
    assert [row.left_out for row in report.steps] == ["warm-up", "warm-up", None, "disturbed", None, None, None]
    page = render(report, "html")
    assert page.count(", warm-up<") == 2
    assert page.count(", disturbed<") == 1
    assert any("excluded as warm-up" in text and "excluded: more than" in text for text in report.cautions)


def test_a_collection_of_garbage_in_a_live_step_makes_it_long_and_not_disturbed() -> None:
    t = Timeline(device=None)
    t.header["baseTimeNanoseconds"] = origin = 1_000_000_000
    for step in range(8):
        with t.step():
            t.op("aten::mm", host=1000)
            if step == 4:
                begin = t.now
                t.python(9000)
    trace = t.trace()
    pause = GcPause(start_ns=origin + begin * US, duration_ns=9 * MS, generation=2)
    live = Run(replace(trace, facts=Facts(timed_steps_s=(1e-3,) * 9, gc_pauses=(pause,))))
    assert live.steps.steady[4]
    # one of seven recorded and none of nine un-profiled steps
    assert live.mean_step.stated_ns == pytest.approx((1 + 9 / 16) * MS, rel=0.01)
    without = Run(replace(trace, facts=Facts(timed_steps_s=(1e-3,) * 9)))
    assert without.steps.kind[4] == DISTURBED
    assert without.mean_step.stated_ns == pytest.approx(MS)


@pytest.mark.parametrize("slow", [4, 8])
def test_a_loader_that_is_slow_in_the_first_pass_only_is_priced_by_the_later_steps(slow: int) -> None:
    """Decoded once and kept: most recorded steps may wait for data, and yet the run is not input-bound for good."""
    t = Timeline(device=None)
    for step in range(12):
        with t.step():
            t.fetch(30_000 if step < slow else 200)
            t.op("aten::mm", host=10_000)
    report = diagnose(t.trace())
    assert report.step_time_s is not None
    assert report.step_time_s.stated == pytest.approx(0.0102, rel=0.01)
    assert [(part.kind, part.count) for part in report.step_time_s.left_out] == [("warm-up", slow)]
    assert report.bound == "compute-bound"
    assert any("first pass over a data set" in text for text in report.cautions)


def test_waits_that_come_again_are_no_first_pass() -> None:
    t = Timeline(device=None)
    for step in range(12):
        with t.step():
            t.fetch(30_000 if step < 4 or step == 8 else 200)
            t.op("aten::mm", host=10_000)
    run = Run(t.trace())
    assert run.steps.steady[8]
    assert "first pass" not in str(run.steps.note)
