"""Which thread trains: the one that steps, is marked or loads batches, however many calls another one makes."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from tests.reference import from_json
from tests.steps import median_split
from tests.timeline import HOST, Timeline

BACKWARD, LOADER = 101, 102
NODE = "autograd::engine::evaluate_function: MmBackward0"
LINE = "train.py(12): augment"


def moved(t: Timeline, since: int, thread: int) -> None:
    """What was drawn on the host since an event count ran on another thread."""
    for event in t.events[since:]:
        if event["tid"] == HOST:
            event["tid"] = thread


def loop(
    t: Timeline, *, optimizer: bool = True, fetch: bool = True, node: bool = True, backward: int = BACKWARD
) -> None:
    """Ten steps of 100 ms of waiting for data, 4 kernels of forward and 20 of backward on a thread of its own."""
    for _ in range(10):
        if fetch:
            t.fetch(100_000, "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__")
        for _ in range(4):
            t.op("aten::mm", kernel=2500)
        since = len(t.events)
        for _ in range(20):
            if node:
                with t.span(NODE, "cpu_op"):
                    t.op("aten::mm", kernel=2500)
            else:
                t.op("aten::mm", kernel=2500)
        moved(t, since, backward)
        if optimizer:
            with t.span("Optimizer.step#SGD.step"):
                t.op("aten::add_", kernel=100)
        t.sync()


def main_thread(t: Timeline) -> str:
    run = Run(t.trace())
    assert run.host.main_track is not None
    return run.trace.tracks[run.host.main_track].tid


@pytest.mark.parametrize("node", [True, False])
def test_waits_for_data_are_those_of_the_thread_that_steps(node: bool) -> None:
    """Backward makes five times as many calls; 100 of 160 ms are waits on the thread that takes the optimizer's steps."""
    t = Timeline()
    loop(t, node=node)
    run = Run(t.trace())
    assert main_thread(t) == str(HOST)
    split = median_split(run)
    assert split.data_loading / split.total == pytest.approx(0.625, abs=0.01)
    assert split.causes["python"] < 0.01 * split.total


@pytest.mark.parametrize("marks", [{"optimizer": False}, {"fetch": False}, {"optimizer": False, "fetch": False}])
def test_each_mark_alone_tells_and_backward_never_does(marks: dict[str, bool]) -> None:
    t = Timeline()
    loop(t, **marks)
    assert main_thread(t) == str(HOST)


def test_a_thread_that_only_loads_ahead_does_not_train() -> None:
    """A prefetching thread iterates the loader and copies each batch; its fetches are overlap, not waiting."""
    t = Timeline()
    for _ in range(8):
        since = len(t.events)
        t.fetch(300)
        t.op("aten::copy_", kernel=20, kernel_name="Memcpy HtoD (Pinned -> Device)", cat="gpu_memcpy", stream=20)
        moved(t, since, LOADER)
        for i in range(12):
            t.op(f"aten::op{i}", kernel=100)
    assert main_thread(t) == str(HOST)
    assert not len(Run(t.trace()).host.fetch_rows)


def test_replicas_on_other_threads_do_not_take_the_loop_from_the_thread_that_loads() -> None:
    """DataParallel: forward of each replica on a thread of its own issues more than the thread with the loop."""
    t = Timeline()
    for _ in range(8):
        t.fetch(300)
        for _ in range(3):
            t.op("aten::copy_", kernel=20)
        since = len(t.events)
        for _ in range(12):
            t.op("aten::mm", kernel=100)
        moved(t, since, LOADER)
    assert main_thread(t) == str(HOST)


def test_optimizer_steps_that_hooks_take_in_backward_are_no_steps_of_the_loop() -> None:
    """An optimizer per parameter, stepped by a hook on the gradient: the loop is elsewhere, and a parameter is no step."""
    t = Timeline()
    for _ in range(6):
        with t.step():
            t.op("aten::mm", kernel=500)
            since = len(t.events)
            for _ in range(5):
                with t.span(NODE, "cpu_op"), t.span("Optimizer.step#SGD.step"):
                    t.op("aten::add_", kernel=100)
            moved(t, since, BACKWARD)
    marked = [e for e in t.events if not e["name"].startswith("ProfilerStep")]
    assert main_thread(t) == str(HOST)
    assert Run(from_json(t.header | {"traceEvents": marked})).steps.source != "optimizer"


def test_steps_marked_on_a_thread_that_only_waits_are_still_the_steps() -> None:
    """The loop runs on a worker thread with the optimizer, another thread calls prof.step()."""
    t = Timeline()
    for _ in range(6):
        with t.step():
            since = len(t.events)
            t.fetch(300)
            t.op("aten::mm", kernel=500)
            with t.span("Optimizer.step#SGD.step"):
                t.op("aten::add_", kernel=100)
            t.sync()
            moved(t, since, LOADER)
    run = Run(t.trace())
    assert main_thread(t) == str(LOADER)
    assert run.steps.source == "ProfilerStep"
    assert median_split(run).data_loading > 0


def test_backward_is_training_on_a_cpu_and_a_loading_thread_is_not() -> None:
    t = Timeline(device=None)
    for _ in range(6):
        with t.step():
            t.op("aten::mm", host=500)
            since = len(t.events)
            with t.span(NODE, "cpu_op"):
                t.op("aten::mm", host=300)
            moved(t, since, BACKWARD)
    since = len(t.events)
    t.now = 10
    for _ in range(40):
        t.op("aten::decode", host=5)
    moved(t, since, LOADER)
    run = Run(t.trace())
    assert median_split(run).compute == 800_000


def test_lines_and_lanes_are_of_the_same_thread() -> None:
    """The time between operators is looked up in the frames of the thread that steps, not of the one with most calls."""
    t = Timeline()
    for _ in range(8):
        t.add("python_function", LINE, t.now, 3000)
        t.python(3000)
        t.op("aten::mm", kernel=100)
        since = len(t.events)
        for _ in range(10):
            t.op("aten::mm", kernel=100)
        moved(t, since, BACKWARD)
        with t.span("Optimizer.step#SGD.step"):
            t.op("aten::add_", kernel=10)
    run = Run(t.trace())
    spot = run.spent_at(run.breakdown.owners["python"])
    assert spot is not None
    assert spot.spelled == "augment() at train.py:12"


def test_stacks_name_the_fetch_where_the_loader_has_no_span() -> None:
    t = Timeline()
    frame = "torch/utils/data/dataloader.py(630): __next__"
    for _ in range(6):
        t.add("python_function", frame, t.now, 900)
        t.python(900)
        for i in range(2):
            t.op(f"aten::op{i}", kernel=50)
        since = len(t.events)
        for i in range(12):
            t.op(f"aten::back{i}", kernel=50)
        moved(t, since, BACKWARD)
        t.sync()
    run = Run(t.trace())
    assert main_thread(t) == str(HOST)
    assert len(run.host.fetch_rows) == 6


def test_what_another_thread_waits_for_delays_nobody() -> None:
    """A thread that saves a checkpoint copies one tensor a step to the host and waits for it; training launches on."""
    t = Timeline()
    for _ in range(8):
        with t.step():
            for _ in range(20):
                t.op("aten::mm", kernel=20, host=40)
            start = t.now - 700
            ids = {"correlation": t._id()}
            t.add("cuda_runtime", "cudaMemcpyAsync", start, 4, tid=LOADER, **ids)
            t.add(
                "gpu_memcpy",
                "Memcpy DtoH (Device -> Pinned)",
                start + 9,
                600,
                pid=0,
                tid=20,
                device=0,
                stream=20,
                **ids,
            )
            t.add("cuda_runtime", "cudaStreamSynchronize", start + 5, 606, tid=LOADER, correlation=t._id())
            for i in range(60):
                t.add("cuda_runtime", "cudaEventQuery", start + 10 * i, 2, tid=LOADER)
    run = Run(t.trace())
    assert not len(run.host.blocking_rows)
    assert run.breakdown.whole.causes["sync"] == 0


def test_a_thread_with_many_of_the_kernels_trains_too() -> None:
    """Backward on a thread of its own without any name of autograd: what it waits for is waited for."""
    t = Timeline()
    for _ in range(8):
        t.op("aten::mm", kernel=100)
        since = len(t.events)
        for _ in range(3):
            t.op("aten::mm", kernel=100)
        t.sync()
        moved(t, since, BACKWARD)
        with t.span("Optimizer.step#SGD.step"):
            t.op("aten::add_", kernel=100)
    assert len(Run(t.trace()).host.blocking_rows) == 8
