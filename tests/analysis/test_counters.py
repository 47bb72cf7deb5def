"""Counts per step are exact on drawn timelines, on a device and on a CPU, and known only where the trace tells."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.summary.counters import counters_of
from mfu_doctor.analysis.views.source_lines import places_of, user_place
from mfu_doctor.comparison.measures import MEASURES
from mfu_doctor.facts import Facts, FrameSample, LoaderFacts
from mfu_doctor.trace import Category, Trace
from tests.timeline import Timeline
from tests.traces import real_run

FLOAT = ("float", "float")
HALF = ("c10::BFloat16", "c10::BFloat16")
Body = Callable[[Timeline, int], None]


def drawn(body: Body, *, steps: int = 5, device: bool = True) -> Timeline:
    """A trace of some steps; `body` draws one (its number given) after a plain forward operator."""
    timeline = Timeline() if device else Timeline(device=None)
    for number in range(steps):
        with timeline.step():
            timeline.op("aten::relu", kernel=100 if device else None)
            body(timeline, number)
            timeline.python(50)
    return timeline


def counts(timeline: Timeline, facts: Facts | None = None) -> dict[str, float]:
    trace = timeline.trace()
    return counters_of(Run(trace if facts is None else replace(trace, facts=facts)))[0]


def test_syncs_and_launches_on_a_device() -> None:
    def body(t: Timeline, number: int) -> None:
        t.op("aten::mm", kernel=200)
        t.item()
        t.sync("cudaDeviceSynchronize")

    found = counts(drawn(body))
    assert found["syncs"] == 2
    assert found["launches"] == 3  # two kernels and the copy of .item()


def test_a_sync_every_fifth_step_does_not_flip_the_count() -> None:
    found = counts(drawn(lambda t, number: t.item() if number % 5 == 0 else None, steps=10))
    assert found["syncs"] == 0


def test_syncs_on_a_cpu_are_the_operators_that_would_stop_a_device() -> None:
    def body(t: Timeline, number: int) -> None:
        with t.span("aten::item", "cpu_op"):
            t.op("aten::_local_scalar_dense")
        with t.span("aten::masked_select", "cpu_op"):
            t.op("aten::nonzero")
        with (
            t.span("Optimizer.step#AdamW.step"),
            t.span("aten::item", "cpu_op"),
        ):  # the step counter: on the CPU anywhere
            t.op("aten::_local_scalar_dense")
        with t.span("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"):
            t.op("aten::item")

    found = counts(drawn(body, device=False))
    assert found["syncs"] == 2
    assert found["loader_workers"] == 0
    assert "pageable_copies" not in found  # a CPU run has no copies to judge


def test_pageable_copies() -> None:
    def body(t: Timeline, number: int) -> None:
        for name in (
            "Memcpy HtoD (Pageable -> Device)",
            "Memcpy HtoD (Pinned -> Device)",
            "Memcpy DtoH (Device -> Pageable)",
        ):
            t.op("aten::copy_", kernel=20, kernel_name=name, cat="gpu_memcpy", launch="cudaMemcpyAsync", bytes=1 << 20)

    assert counts(drawn(body))["pageable_copies"] == 1


@pytest.mark.parametrize("device", [True, False])
def test_fp32_matmuls_need_their_types(device: bool) -> None:
    def body(t: Timeline, number: int) -> None:
        t.op("aten::mm", kernel=50 if device else None, dims=[[8, 8], [8, 8]], types=FLOAT)
        t.op("aten::bmm", kernel=50 if device else None, dims=[[8, 8, 8], [8, 8, 8]], types=HALF)

    def untyped(t: Timeline, number: int) -> None:
        t.op("aten::mm", kernel=50 if device else None)

    assert counts(drawn(body, device=device))["fp32_matmuls"] == 1
    assert "fp32_matmuls" not in counts(drawn(untyped, device=device))


@pytest.mark.parametrize("device", [True, False])
def test_unfused_optimizer_kernels(device: bool) -> None:
    kernel = 10 if device else None

    def loop(t: Timeline, number: int) -> None:
        with t.span("Optimizer.step#SGD.step"):
            for _ in range(6):
                t.op("aten::add_", kernel=kernel)

    def fused(t: Timeline, number: int) -> None:
        with t.span("Optimizer.step#SGD.step"):
            t.op(
                "aten::_fused_sgd_",
                kernel=kernel,
                kernel_name="void at::native::multi_tensor_apply_kernel<>" if device else None,
            )

    assert counts(drawn(loop, device=device))["unfused_optimizer_kernels"] == 6
    assert counts(drawn(fused, device=device))["unfused_optimizer_kernels"] == 0
    assert "unfused_optimizer_kernels" not in counts(drawn(lambda t, number: None, device=device))


def test_collectives() -> None:
    def kernel(t: Timeline, number: int) -> None:
        t.op("c10d::allreduce_", kernel=30, kernel_name="ncclDevKernel_AllReduce_Sum_bf16_RING_LL")

    def issued(t: Timeline, number: int) -> None:
        t.op("c10d::allreduce_")
        t.op("c10d::broadcast_")

    assert counts(drawn(kernel))["collectives"] == 1
    assert counts(drawn(issued, device=False))["collectives"] == 2


def test_every_recompilation_in_a_settled_step_counts() -> None:
    def body(t: Timeline, number: int) -> None:
        if number == 3:
            with t.span("_compile.compile_inner (dynamo_timed)"):
                t.python(500)

    found = counts(drawn(body))["recompilations"]
    assert 0 < found <= 0.5
    assert counts(drawn(lambda t, number: None))["recompilations"] == 0


def test_loader_workers_come_from_the_facts() -> None:
    loaders = (
        LoaderFacts(class_name="DataLoader", num_workers=6, fetches=50),
        LoaderFacts(class_name="V", num_workers=0),
    )
    plain = drawn(lambda t, number: None)
    assert counts(plain, Facts(loaders=loaders))["loader_workers"] == 6
    assert "loader_workers" not in counts(plain)


def test_every_count_has_its_budget() -> None:
    def body(t: Timeline, number: int) -> None:
        t.op("aten::mm", kernel=50, dims=[[8, 8], [8, 8]], types=FLOAT)
        with t.span("Optimizer.step#SGD.step"):
            t.op("aten::add_", kernel=10)

    found = counts(drawn(body), Facts(loaders=(LoaderFacts(class_name="DataLoader", num_workers=2),)))
    assert set(found) == {measure.name for measure in MEASURES if measure.structural}


def with_frames(t: Timeline, number: int) -> None:
    with t.span("train.py(40): train_step", "python_function"), t.span("torch/_tensor.py(10): item", "python_function"):
        t.item()


def test_a_sync_has_its_line_from_the_stack() -> None:
    _, places = counters_of(Run(drawn(with_frames).trace()))
    assert places == {"syncs": ("train.py:40",)}


def test_a_sync_has_its_line_from_a_sample_taken_while_it_lasted() -> None:
    def body(t: Timeline, number: int) -> None:
        t.op("aten::mm", kernel=5000)
        t.item()

    trace = drawn(body).trace()
    waits = [row for row in trace.rows(Category.RUNTIME).tolist() if trace.name_of(row) == "cudaStreamSynchronize"]
    middle = int(trace.events.start[waits[2]] + trace.events.end[waits[2]]) // 2
    origin = 1_700_000_000_000_000_000
    frames = (
        FrameSample(time_ns=origin + middle, place="train.py:57"),
        FrameSample(time_ns=origin + 1, place="x.py:1"),
    )
    sampled: Trace = replace(trace, origin_ns=origin, facts=Facts(frames=frames))
    assert counters_of(Run(sampled))[1] == {"syncs": ("train.py:57",)}


def test_frames_of_the_framework_are_not_the_users() -> None:
    assert user_place("train.py(41): step") == "train.py:41"
    assert user_place("src/model/block.py(7): forward") == "src/model/block.py:7"
    assert user_place("/home/a/proj/train.py(3): main") == "/home/a/proj/train.py:3"
    for frame in (
        "torch/nn/modules/module.py(1532): _call_impl",
        "weakref.py(100): __init__",
        "/usr/lib/python3.11/contextlib.py(3): x",
        "/opt/venv/lib/python3.11/site-packages/torch/_tensor.py(9): item",
        "<built-in method item of Tensor object at 0x7f>",
        "nn.Module: Linear_0",
        "<frozen importlib._bootstrap>(1): f",
    ):
        assert user_place(frame) is None, frame


def test_places_are_of_the_innermost_frame_on_the_same_thread() -> None:
    t = Timeline()
    t.add("python_function", "outer.py(1): f", 0, 100)
    t.add("python_function", "inner.py(2): g", 10, 20)
    t.add("python_function", "other.py(3): h", 0, 100, tid=999)
    for start in (5, 15, 30, 99, 100):
        t.add("cpu_op", "aten::x", start, 1)
    trace = t.trace()
    assert places_of(trace, trace.rows(Category.CPU_OP)) == (
        "outer.py:1",
        "inner.py:2",
        "outer.py:1",
        "outer.py:1",
        None,
    )


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("v100_resnet50_workers0", {"loader_workers": 0.0, "pageable_copies": 2.0}),
        ("a100_resnet50_ddp_rank0of2", {"collectives": 7.0}),
        ("cpu_gloo_rank34of300", {"collectives": 2.0}),
    ],
)
def test_real_traces(name: str, known: dict[str, float]) -> None:
    found, _ = counters_of(real_run(name))
    assert {key: found[key] for key in known} == known
