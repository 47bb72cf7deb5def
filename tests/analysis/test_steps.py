"""Step windows: on the device's clock, from whatever marks the trace has, and said so."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Options, Run
from mfu_doctor.errors import DoctorError
from mfu_doctor.facts import Facts
from tests.reference import from_json
from tests.steps import median_split
from tests.timeline import Timeline
from tests.traces import real_run


def train(t: Timeline, steps: int, *, kernel: int = 500) -> None:
    for _ in range(steps):
        with t.step():
            t.fetch(100)
            for name in ("aten::conv2d", "aten::relu", "aten::mm"):
                t.op(name, kernel=kernel)
            with t.span("Optimizer.step#SGD.step"):
                t.op("aten::add_", kernel=kernel)


def test_a_window_runs_from_first_kernel_to_first_kernel() -> None:
    """Five marks give four windows, each as long as the device needs, although the host finished them all long before."""
    t = Timeline()
    train(t, 5)
    run = Run(t.trace())
    assert run.steps.source == "ProfilerStep"
    assert run.steps.number.tolist() == [0, 1, 2, 3]
    assert run.steps.duration.tolist() == [2_000_000] * 4
    assert run.steps.steady.tolist() == [False, True, True, True]
    assert run.steps.host_end[-1] < run.steps.start[-1]


def test_windows_touch_so_that_no_time_is_lost_between_steps() -> None:
    t = Timeline()
    train(t, 6, kernel=30)
    steps = Run(t.trace()).steps
    assert steps.end[:-1].tolist() == steps.start[1:].tolist()


def test_without_profiler_steps_the_optimizer_marks_the_steps() -> None:
    t = Timeline()
    train(t, 5)
    events = [e for e in t.events if not e["name"].startswith("ProfilerStep")]
    run = Run(from_json(t.header | {"traceEvents": events}))
    assert run.steps.source == "optimizer"
    assert set(run.steps.duration.tolist()) == {2_000_000}
    assert run.steps.note is not None


def test_optimizers_that_step_in_a_row_end_one_step() -> None:
    """An optimizer per part of the model: forward and backward of 1200 us, then three steps of the same class."""
    t = Timeline()
    for _ in range(6):
        for name in ("aten::conv2d", "aten::relu", "aten::mm"):
            t.op(name, kernel=400)
        for _ in range(3):
            with t.span("Optimizer.step#Adam.step"):
                t.op("aten::add_", kernel=20)
            with t.span("Optimizer.zero_grad#Adam.zero_grad"):
                t.op("aten::zero_", kernel=10)
    run = Run(t.trace())
    assert (run.steps.source, run.steps.count) == ("optimizer", 4)
    assert set(run.steps.duration.tolist()) == {1_290_000}


def test_an_optimizer_inside_another_of_its_class_takes_no_step_of_its_own() -> None:
    t = Timeline()
    for _ in range(6):
        t.op("aten::mm", kernel=400)
        with t.span("Optimizer.step#Wrapped.step"), t.span("Optimizer.step#Wrapped.step"):
            t.op("aten::add_", kernel=20)
    assert set(Run(t.trace()).steps.duration.tolist()) == {420_000}


def test_without_marks_the_period_of_the_kernels_marks_the_steps() -> None:
    t = Timeline()
    for _ in range(6):
        for i in range(12):
            t.op(f"aten::op{i}", kernel=100)
    run = Run(t.trace())
    assert run.steps.source == "periodicity"
    assert set(run.steps.duration.tolist()) == {1_200_000}


def test_layers_inside_one_graph_launch_are_not_steps() -> None:
    t = Timeline()
    t.call("cudaGraphLaunch", 10, correlation=9)
    for _ in range(6):
        for i in range(12):
            t.device(f"layer_kernel_{i}", 50, correlation=9)
    assert Run(t.trace()).steps.source == "whole trace"


def test_a_trace_without_any_repeat_is_one_step_and_says_so() -> None:
    t = Timeline()
    for i in range(5):
        t.op(f"aten::op{i}", kernel=100)
    steps = Run(t.trace()).steps
    assert (steps.source, steps.count) == ("whole trace", 1)
    assert steps.note is not None
    assert "one step" in steps.note


def test_a_stump_at_the_end_is_not_a_step() -> None:
    """The profiler stops inside the last ProfilerStep: on a CPU it would count as a very fast step."""
    t = Timeline(device=None)
    for _ in range(4):
        with t.step():
            t.op("aten::mm", host=900)
    with t.step():
        t.op("aten::mm", host=20)
    assert Run(t.trace()).steps.number.tolist() == [0, 1, 2, 3]


def test_steps_option_selects_and_refuses_what_is_not_there() -> None:
    t = Timeline()
    train(t, 6)
    assert Run(t.trace(), Options(steps=(2, 4))).steps.number.tolist() == [2, 3]
    with pytest.raises(DoctorError, match="this trace has steps 0:5"):
        _ = Run(t.trace(), Options(steps=(90, 95))).steps


def test_a_trace_with_nothing_in_it_is_refused_with_a_remedy() -> None:
    with pytest.raises(DoctorError, match="no operator or kernel with a duration"):
        _ = Run(from_json({"traceEvents": []})).steps


def test_a_trace_whose_work_takes_no_time_is_refused_and_not_divided_by() -> None:
    t = Timeline()
    t.op("aten::mm", kernel=0)
    with pytest.raises(DoctorError, match="no operator or kernel with a duration"):
        _ = Run(t.trace()).steps


def test_cpu_steps_are_the_marks_themselves() -> None:
    t = Timeline(device=None)
    for _ in range(3):
        with t.step():
            t.fetch(200)
            t.op("aten::mm", host=800)
    steps = Run(t.trace()).steps
    assert steps.duration.tolist() == [1_000_000] * 3


def test_a_prefetching_copy_on_its_own_stream_opens_no_step() -> None:
    """The copy for the next batch runs ahead on stream 20: windows stay those of the stream that computes (500 us)."""
    t = Timeline()
    for _ in range(6):
        with t.step():
            t.op("aten::copy_", kernel=20, kernel_name="Memcpy HtoD (Pinned -> Device)", cat="gpu_memcpy", stream=20)
            t.op("aten::mm", kernel=500)
    assert Run(t.trace()).steps.duration.tolist() == [500_000] * 5


def test_a_copy_in_every_other_step_leaves_windows_and_replay_whole() -> None:
    t = Timeline()
    for i in range(7):
        with t.step():
            if i % 2:
                t.op(
                    "aten::copy_", kernel=20, kernel_name="Memcpy HtoD (Pinned -> Device)", cat="gpu_memcpy", stream=20
                )
            t.op("aten::mm", kernel=500)
    run = Run(t.trace())
    assert run.steps.duration.tolist() == [500_000] * 6
    assert run.replay.measured_ns == 500_000
    assert run.replay.error == pytest.approx(0, abs=0.01)


def test_operations_that_start_together_do_not_swap_a_window_for_another_stream() -> None:
    """A copy starts in the same microsecond as the kernel that opens the step; it is not the step's opening."""
    t = Timeline()
    for _ in range(5):
        with t.step():
            t.op("aten::mm", kernel=400)
            last = [e for e in t.events if e["cat"] == "kernel"][-1]
            ids: dict[str, Any] = {"correlation": t._id()}
            t.call("cudaMemcpyAsync", 2, **ids)
            t.add(
                "gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", last["ts"], 5, pid=0, tid=20, device=0, stream=20, **ids
            )
    run = Run(t.trace())
    opening = run.activity.row[run.steps.opening]
    assert {run.trace.name_of(int(r)) for r in opening} == {"aten::mm"}
    assert run.replay.error == pytest.approx(0, abs=0.01)


def test_a_period_is_found_without_launch_calls() -> None:
    t = Timeline()
    for _ in range(6):
        for i in range(12):
            t.op(f"aten::op{i}", kernel=100)
    events = [e for e in t.events if e["cat"] != "cuda_runtime"]
    assert Run(from_json(t.header | {"traceEvents": events})).steps.source == "periodicity"


def test_leading_steps_that_warm_up_are_left_out_and_said_to_be() -> None:
    t = Timeline()
    for kernel in (3000, 2500, 500, 500, 500, 500, 500, 500):
        with t.step():
            t.op("aten::mm", kernel=kernel)
    steps = Run(t.trace()).steps
    assert steps.steady.tolist() == [False, False, True, True, True, True, True]
    assert steps.note is not None
    assert "first 2 steps" in steps.note


def test_a_recorded_step_that_no_unprofiled_one_explains_is_left_out() -> None:
    """Something else ran while step 3 was recorded: 3000 us where the un-profiled steps took 520 at most."""
    t = Timeline()
    for kernel in (500, 500, 500, 3000, 500, 500, 500, 500):
        with t.step():
            t.op("aten::mm", kernel=kernel)
    trace = t.trace()
    live = Run(replace(trace, facts=Facts(timed_steps_s=(500e-6, 520e-6, 510e-6))))
    assert live.steps.steady.tolist() == [False, True, True, False, True, True, True]
    assert "excluded" in str(live.steps.note)
    assert live.replay.recorded_ns == 500_000
    assert Run(trace).steps.steady.tolist() == [False, True, True, True, True, True, True]


def test_a_marked_thread_that_runs_no_operator_does_not_train() -> None:
    """The loop is marked on one thread and a worker thread computes: the worker's operators are the run."""
    t = Timeline(device=None)
    for _ in range(4):
        with t.step():
            t.op("aten::mm", host=900)
    for event in t.events:
        if event["cat"] == "cpu_op":
            event["tid"] = 555
    run = Run(t.trace())
    assert run.steps.duration.tolist() == [900_000] * 4
    assert median_split(run).compute == 900_000


@pytest.mark.parametrize(("workers", "mean_ms"), [(0, 175.790), (4, 136.343)])
def test_v100_windows_have_the_published_mean(workers: int, mean_ms: float) -> None:
    """The GPU-side windows of the public ResNet-50 traces, independent analysis: 175.790 and 136.343 ms a step."""
    steps = real_run(f"v100_resnet50_workers{workers}").steps
    assert steps.count == 5
    assert steps.duration.mean() / 1e6 == pytest.approx(mean_ms, abs=1e-3)


def test_a_stream_that_computes_most_but_seldom_opens_no_steps() -> None:
    """Two of twelve steps also compute 5 ms on another stream: windows stay those of the stream that every step uses."""
    t = Timeline()
    for i in range(13):
        with t.step():
            for _ in range(5):
                t.op("aten::mm", kernel=100)
            if i in (3, 9):
                t.op("aten::conv2d", kernel=5000, stream=20)
    steps = Run(t.trace()).steps
    assert steps.count == 12
    assert steps.number.tolist() == list(range(12))
