"""What time belongs to when something like it happens elsewhere: another thread, device or step, or after the marks."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.timed_steps import evened
from mfu_doctor.facts import Facts, Window
from mfu_doctor.trace import Category
from tests.steps import median_split
from tests.timeline import FETCH, WORKER, Timeline

US = 1000


def test_a_fetch_on_another_thread_is_overlap_and_no_waiting_for_data() -> None:
    """A background thread prefetches while this one is in the user's own Python: a faster loader would change nothing."""
    t = Timeline()
    for _ in range(5):
        with t.step():
            t.op("aten::mm", kernel=100)
            t.add("user_annotation", FETCH, t.now, 800, tid=WORKER)
            t.python(900)
    run = Run(t.trace())
    split = median_split(run)
    assert split.data_loading == 0
    assert split.causes["python"] > 700 * US
    assert not len(run.host.fetch_rows)


def test_a_wait_on_a_device_that_is_idle_already_costs_only_itself() -> None:
    """The device ran dry long before in the user's Python: the sync after that did not drain it."""
    t = Timeline()
    for _ in range(5):
        with t.step():
            t.op("aten::mm", kernel=100)
            t.python(600)
            t.sync(tail=3)
            t.python(300)
    causes = median_split(Run(t.trace())).causes
    assert causes["sync"] == 3 * US
    assert causes["python"] > 700 * US


def test_the_device_that_works_most_is_judged() -> None:
    """A small kernel on the first device (a copy of the loss, an evaluation) does not make it the run's."""
    t = Timeline()
    for _ in range(5):
        with t.step():
            t.op("aten::mm", kernel=500)
            start = t.now
            t.add("kernel", "small", start, 20, pid=0, tid=9, device=1, stream=9)
    for event in t.events:
        if "device" in event["args"]:
            event["args"]["device"] = 1 - event["args"]["device"]
    run = Run(t.trace())
    assert run.activity.device == 1
    assert {run.trace.name_of(int(row)) for row in run.activity.row} == {"aten::mm"}


def test_what_is_launched_after_the_only_step_is_no_part_of_it() -> None:
    """One step was marked, and an evaluation followed it: the step is 500 us of kernels and not 5500."""
    t = Timeline()
    with t.step():
        t.op("aten::mm", kernel=500)
    t.op("aten::conv2d", kernel=5000)
    steps = Run(t.trace()).steps
    assert (steps.source, steps.count) == ("ProfilerStep", 1)
    assert int(steps.duration[0]) < 600 * US


def test_of_two_steps_neither_is_a_stump() -> None:
    """With two there is no telling which one is unusual: both are kept."""
    t = Timeline(device=None)
    for host in (900, 20):
        with t.step():
            t.op("aten::mm", host=host)
    assert Run(t.trace()).steps.number.tolist() == [0, 1]


def test_means_are_of_the_steps_that_are_judged() -> None:
    """The first step compiles for 50 ms: that is in no figure of the others."""
    t = Timeline(device=None)
    for step in range(5):
        with t.step():
            t.op("aten::mm", host=50_000 if step == 0 else 900)
            t.python(100)
    run = Run(t.trace())
    assert run.breakdown.mean_ns("compute") == 900 * US
    assert run.breakdown.mean_ns("python") == 100 * US


def test_shapes_are_those_of_the_last_step_that_recorded_them() -> None:
    """The first step with stacks is a warm-up of its own; a last batch before it may have had another size."""
    t = Timeline(device=None)
    for _ in range(2):
        with t.step():
            t.op("aten::mm", host=100)
    middle = t.now
    t.python(100)
    begin = t.now
    for rows in (3, 8):
        with t.step():
            t.op("aten::mm", host=900, dims=[[rows, 16], [16, 32]], types=["float", "float"])
    trace = t.trace()
    at = trace.origin_ns
    windows = (
        Window(kind="timing", start_ns=at, end_ns=at + middle * US, steps=2),
        Window(kind="shapes", start_ns=at + begin * US, end_ns=at + t.now * US, steps=2),
    )
    run = Run(replace(trace, facts=Facts(windows=windows)))
    found = [run.trace.args_of(int(row)) for row in run.trace.rows(Category.CPU_OP)]
    assert [args and args.dims for args in found] == [((8, 16), (16, 32))] * 2


@pytest.mark.parametrize(
    ("times", "burst", "means"),
    [
        ((4.0, 0.0, 4.0, 0.0, 4.0), 2, (2.0, 2.0, 2.0, 2.0)),
        ((4.0, 0.0, 4.0, 0.0), 2, (2.0, 2.0, 2.0)),
        ((4.0, 0.0, 4.0), 2, (4.0, 0.0, 4.0)),  # two means would have no spread
        ((4.0, 0.0, 4.0), 1, (4.0, 0.0, 4.0)),
        ((4.0, 0.0), 8, (4.0, 0.0)),
    ],
)
def test_bursts_of_a_loader_are_evened_out_where_three_means_remain(
    times: tuple[float, ...], burst: int, means: tuple[float, ...]
) -> None:
    assert evened(times, burst) == means
