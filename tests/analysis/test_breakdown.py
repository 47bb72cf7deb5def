"""The split: every nanosecond of a step has one owner, the sum is the step, and idle has its cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.breakdown import Split
from mfu_doctor.result.step import IDLE_CAUSES
from tests.reference import from_json
from tests.steps import median_split
from tests.timeline import Timeline
from tests.traces import SUFFIX, TRACES, real_run


def closes(split: Split) -> bool:
    buckets = split.compute + split.communication + split.memory_copy + split.data_loading + split.idle
    return buckets == split.total and sum(split.causes.values()) == split.idle


def test_a_slow_loader_owns_the_idle_time() -> None:
    """400 us of kernels, 1000 us of fetching: the device waits for data for what the fetch cannot hide."""
    t = Timeline()
    for _ in range(5):
        with t.step():
            t.fetch(1000)
            t.op("aten::mm", kernel=400)
    split = median_split(Run(t.trace()))
    assert split.total == 1_010_000
    assert split.compute == 400_000
    assert split.data_loading == 595_000 + 0  # 1000 us less what the previous kernel still ran of it
    assert closes(split)


def test_many_short_kernels_make_launch_idle() -> None:
    t = Timeline()
    for _ in range(4):
        with t.step():
            for _ in range(100):
                t.op("aten::add", kernel=3, host=20)
    split = median_split(Run(t.trace()))
    assert split.compute == 300_000
    assert split.causes["launch"] > 0.75 * split.total
    assert closes(split)


def test_python_between_operators_is_not_launch() -> None:
    t = Timeline()
    for _ in range(4):
        with t.step():
            t.op("aten::mm", kernel=100)
            t.python(900)
    split = median_split(Run(t.trace()))
    assert split.causes["python"] > 700_000
    assert split.causes["launch"] < 60_000


def test_the_price_of_a_sync_is_the_drain_after_it() -> None:
    """`.item()` on a busy device: the wait itself overlaps compute, the gap until the queue refills is idle by sync."""
    t = Timeline()
    for _ in range(4):
        with t.step():
            t.op("aten::mm", kernel=1000)
            t.item()
            for _ in range(5):
                t.op("aten::add", kernel=50)
    split = median_split(Run(t.trace()))
    assert split.causes["sync"] == 12_000  # 2 us of the wait itself would be left without the drain after it
    assert split.compute == 1_250_000


def test_allocation_between_kernels_is_the_allocators() -> None:
    t = Timeline()
    for _ in range(4):
        with t.step():
            t.op("aten::mm", kernel=50)
            t.call("cudaMalloc", 700)
    assert median_split(Run(t.trace())).causes["allocator"] > 600_000


def test_hidden_communication_and_copies_cost_nothing() -> None:
    t = Timeline()
    for _ in range(4):
        with t.step():
            t.op("aten::mm", kernel=1000)
            t.op("nccl:all_reduce", kernel=500, kernel_name="ncclDevKernel_AllReduce_Sum_f32", stream=20)
            t.op("aten::copy_", kernel=400, kernel_name="Memcpy HtoD (Pinned -> Device)", cat="gpu_memcpy", stream=21)
    split = median_split(Run(t.trace()))
    assert (split.communication, split.memory_copy) == (0, 0)


def test_exposed_communication_is_what_nothing_else_covers() -> None:
    t = Timeline()
    for _ in range(4):
        with t.step():
            end = t.op("aten::mm", kernel=300)
            comm = t.op("c10d::allreduce_", kernel=700, kernel_name="ncclDevKernel_AllReduce", stream=20, ready=end)
            t.op("aten::add_", kernel=100, ready=comm)
    split = median_split(Run(t.trace()))
    assert split.communication == 700_000
    assert split.compute == 400_000


def test_a_cpu_run_computes_in_its_operators_and_idles_in_python() -> None:
    t = Timeline(device=None)
    for _ in range(4):
        with t.step():
            t.fetch(300)
            t.op("aten::mm", host=500)
            t.python(200)
    split = median_split(Run(t.trace()))
    assert (split.compute, split.data_loading, split.causes["python"]) == (500_000, 300_000, 200_000)


def test_operators_inside_a_fetch_are_loading_not_compute() -> None:
    """A loader without workers collates with aten::stack on the training thread."""
    t = Timeline(device=None)
    for _ in range(4):
        with t.step():
            with t.span("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"):
                t.op("aten::stack", host=250)
            t.op("aten::mm", host=500)
    split = median_split(Run(t.trace()))
    assert (split.compute, split.data_loading) == (500_000, 250_000)


kernels = st.lists(
    st.tuples(
        st.sampled_from(["kernel", "nccl", "gpu_memcpy"]), st.integers(0, 3000), st.integers(0, 900), st.integers(0, 3)
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(kernels)
def test_the_split_closes_for_any_overlap(drawn: list[tuple[str, int, int, int]]) -> None:
    """Overlapping, nested and zero-length operations on several streams, launched at any time."""
    events: list[dict[str, Any]] = []
    for i, (kind, ts, dur, stream) in enumerate(drawn):
        name = "ncclDevKernel_X" if kind == "nccl" else kind
        cat = "kernel" if kind == "nccl" else kind
        args = {"correlation": i + 1, "device": 0, "stream": stream}
        events.append(
            {"ph": "X", "cat": cat, "name": name, "pid": 0, "tid": stream, "ts": ts, "dur": dur, "args": args}
        )
        call = {"correlation": i + 1}
        at = max(ts - 7 * stream - 3, 0)
        events.append(
            {
                "ph": "X",
                "cat": "cuda_runtime",
                "name": "cudaLaunchKernel",
                "pid": 1,
                "tid": 1,
                "ts": at,
                "dur": 2,
                "args": call,
            }
        )
    if sum(e["dur"] for e in events if e["pid"] == 0) == 0:
        return
    breakdown = Run(from_json(events)).breakdown
    assert all(closes(split) for split in breakdown.steps)


@pytest.mark.parametrize("path", sorted(TRACES.rglob("*.gz")), ids=lambda p: p.name.partition(".")[0])
def test_the_split_closes_on_real_traces(path: Path) -> None:
    run = real_run(str(path.relative_to(TRACES)).removesuffix(SUFFIX))
    assert all(closes(split) for split in run.breakdown.steps)
    assert set(median_split(run).causes) == set(IDLE_CAUSES)


@pytest.mark.parametrize(("workers", "idle_share"), [(0, 0.4277), (4, 0.2483)])
def test_v100_idle_shares_as_published(workers: int, idle_share: float) -> None:
    """Device idle (loading included) of the public V100 pair: 42.77 % with 0 workers, 24.83 % with 4."""
    breakdown = real_run(f"v100_resnet50_workers{workers}").breakdown
    total = sum(s.total for s in breakdown.steps)
    assert sum(s.idle + s.data_loading for s in breakdown.steps) / total == pytest.approx(idle_share, abs=2e-4)


def test_owners_are_disjoint() -> None:
    run = real_run("a100_dlrm_rank3of8")
    sets = list(run.breakdown.owners.values())
    starts = np.concatenate([s.start for s in sets])
    ends = np.concatenate([s.end for s in sets])
    order = np.argsort(starts, kind="stable")
    assert (starts[order][1:] >= ends[order][:-1]).all()


def test_collectives_on_their_own_threads_are_communication_on_a_cpu_run() -> None:
    """gloo runs on threads of its own, as annotations: what no operator covers of it is exposed."""
    t = Timeline(device=None)
    for _ in range(3):
        with t.step():
            t.add("user_annotation", "gloo:all_reduce", t.now + 400, 500, tid=300)
            t.op("aten::mm", host=600)
            t.python(400)
    split = median_split(Run(t.trace()))
    assert (split.compute, split.communication, split.causes["python"]) == (600_000, 300_000, 100_000)


def without_calls(t: Timeline) -> dict[str, Any]:
    """The drawn trace with no runtime calls and with operator ids of their own (not copies of the correlation)."""
    events = [e for e in t.events if e["cat"] != "cuda_runtime"]
    for event in events:
        if "External id" in event["args"]:
            event["args"]["External id"] += 100_000
    return t.header | {"traceEvents": events}


def test_without_launch_calls_a_fetch_still_owns_its_gap() -> None:
    """No runtime calls were recorded: an operator's end says when its kernel was issued, so a loader's gap stays its own."""
    t = Timeline()
    for _ in range(5):
        with t.step():
            t.fetch(1000)
            t.op("aten::mm", kernel=400)
    split = median_split(Run(from_json(without_calls(t))))
    assert split.data_loading == pytest.approx(595_000, abs=6_000)
    assert split.causes["queue"] < 10_000
    assert closes(split)


def test_marks_that_cannot_be_tied_to_kernels_are_said_to_be_unused() -> None:
    t = Timeline()
    for _ in range(5):
        with t.step():
            t.device("orphan_kernel", 40)
            t.now += 100
    steps = Run(t.trace()).steps
    assert steps.source == "whole trace"
    assert "links the ProfilerStep events to kernels" in str(steps.note)


def test_a_gap_that_nothing_explains_is_said_to_be_unexplained() -> None:
    """Kernels alone, with no call and no operator: why the device was idle cannot be known."""
    t = Timeline()
    for _ in range(6):
        for i in range(10):
            t.device(f"kernel_{i}", 40)
            t.now += 60
    split = median_split(Run(t.trace()))
    assert split.causes["other"] == split.idle > 0
    assert closes(split)


def test_after_the_last_operation_the_host_is_late_not_the_queue() -> None:
    """One step: the device finishes, then Python works 700 us until the step's mark ends."""
    t = Timeline()
    with t.step():
        t.op("aten::mm", kernel=100)
        t.python(800)
    split = median_split(Run(t.trace()))
    assert split.causes["queue"] == 0
    assert split.causes["python"] > 650_000
    assert closes(split)
