"""A trace without steps is judged from its first to its last work; the rest is named and no part of the step."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.trace.few_steps import few_steps
from tests.rules.judging import found
from tests.steps import median_split
from tests.timeline import Timeline

US = 1000


def decode(t: Timeline) -> None:
    """Nine milliseconds of thirty kernels that do not repeat."""
    for i in range(30):
        t.op(f"aten::op{i}", kernel=300, host=320)


def judged(t: Timeline) -> Run:
    run = Run(t.trace())
    assert run.steps.source == "whole trace"
    assert run.replay.error == pytest.approx(0, abs=0.03)
    assert run.replay.trusted
    return run


def test_waiting_before_the_work_is_no_part_of_the_step() -> None:
    """A server fills a buffer, waits 464 ms for a request, and decodes for 10 ms."""
    t = Timeline()
    t.op("aten::fill_", kernel=2)
    t.python(464_000)
    decode(t)
    run = judged(t)
    assert median_split(run).total == (29 * 320 + 300) * US
    assert "464 ms before it are left out" in found(few_steps, run).summary


def test_waiting_after_the_work_is_no_part_of_the_step() -> None:
    t = Timeline()
    decode(t)
    t.python(464_000)
    t.op("aten::fill_", kernel=2)
    run = judged(t)
    assert median_split(run).total == (29 * 320 + 300) * US
    assert "464 ms after it" in found(few_steps, run).summary


@pytest.mark.parametrize("stray", [True, False])
def test_a_graph_that_other_work_holds_is_judged_from_its_first_kernel(stray: bool) -> None:
    """One launch, and 464 ms later its kernels: what held the queue is before the trace's work."""
    t = Timeline()
    if stray:
        t.op("aten::fill_", kernel=2)
    t.call("cudaGraphLaunch", 10, correlation=99)
    t.now += 464_000
    for i in range(30):
        t.device(f"node{i}", 300, correlation=99)
    run = judged(t)
    assert median_split(run).total == 9000 * US
    assert median_split(run).causes["queue"] == 0


def test_operations_before_a_hold_that_are_little_of_the_work_are_left_out() -> None:
    """Six kernels of 2 us run at once; what follows them is launched too, and starts 464 ms later."""
    t = Timeline()
    for i in range(6):
        t.op(f"aten::first{i}", kernel=2, host=50)
    t.free[7] = 464_000
    for i in range(30):
        t.op(f"aten::op{i}", kernel=300, host=20)
    assert median_split(judged(t)).total == 9000 * US


def test_work_on_both_sides_of_a_long_pause_is_one_trace() -> None:
    """A third of the work is before the pause: the pause is a part of what is judged."""
    t = Timeline()
    t.op("aten::mm", kernel=3000)
    t.sync()
    t.python(464_000)
    decode(t)
    run = judged(t)
    assert median_split(run).total > 470_000 * US


def test_on_a_cpu_operators_are_the_work() -> None:
    t = Timeline(device=None)
    t.op("aten::empty", host=2)
    t.python(464_000)
    for i in range(30):
        t.op(f"aten::op{i}", host=300)
    run = Run(t.trace())
    assert median_split(run).total == 9000 * US
    assert "464 ms before" in found(few_steps, run).summary


def test_a_trace_that_is_all_work_leaves_nothing_out() -> None:
    t = Timeline()
    decode(t)
    assert found(few_steps, judged(t)).summary == "The trace has no steps: all of it is analysed as one step"
