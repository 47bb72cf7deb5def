"""What replay says a change saves, against the closed form that a sheet of paper gives for a timeline this simple.

Notation per steady step: T wall, C compute, X exposed communication, M exposed copies, S idle after a sync until the queue
refills, L idle while the host launches, H the host's own time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mfu_doctor.analysis.replay.edits import (
    AsyncCopies,
    DropWaits,
    Edit,
    MergeLaunches,
    MoveToStream,
    ScaleDevice,
    ScaleHost,
    SetDevice,
    ShortenHost,
)
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.trace import Category
from tests.steps import median_split
from tests.timeline import Timeline

US = 1000
STEPS = 8
Rows = np.ndarray[tuple[int], np.dtype[np.int64]]


def saved(run: Run, *edits: Edit) -> float:
    """Microseconds a step that replay predicts these edits to save."""
    return (run.replay.measured_ns - run.replay.step_ns(edits)) / US


def of_name(run: Run, name: str, category: Category = Category.KERNEL) -> Rows:
    rows = run.trace.rows(category)
    return rows[[run.trace.name_of(int(r)) == name for r in rows]]


def spans(run: Run, rows: Rows) -> Intervals:
    return Intervals(run.trace.events.start[rows], run.trace.events.end[rows])


@pytest.mark.parametrize(("fetch", "kernel", "workers"), [(900, 400, 2), (900, 400, 4), (3000, 200, 3), (900, 850, 2)])
def test_more_workers_leave_what_they_cannot_deliver_in_time(fetch: int, kernel: int, workers: int) -> None:
    """T' = max(C, t_load / w + issue): with w workers a batch comes every t_load / w."""
    t = Timeline()
    for _ in range(STEPS):
        with t.step():
            t.fetch(fetch)
            t.op("aten::mm", kernel=kernel)
    run = Run(t.trace())
    rows = run.host.fetch_rows
    keep = np.full(len(rows), fetch * US // workers)
    edit = ShortenHost(run.trace.events.start[rows], run.trace.events.end[rows], keep)
    expected = max(fetch + 10, kernel) - max(fetch / workers + 10, kernel)
    assert saved(run, edit) == pytest.approx(expected, abs=1)


def copying(copy: int, kernel: int, *, blocks: bool) -> Run:
    t = Timeline()
    for _ in range(STEPS):
        with t.step():
            ids: dict[str, Any] = {"correlation": t._id()}
            kind = "Pageable" if blocks else "Pinned"
            end = max(t.now + t.latency, t.free.get(7, 0)) + copy
            t.call("cudaMemcpyAsync", end - t.now if blocks else 4, **ids)
            t.free[7] = end
            t.add(
                "gpu_memcpy",
                f"Memcpy HtoD ({kind} -> Device)",
                end - copy,
                copy,
                pid=0,
                tid=7,
                device=0,
                stream=7,
                **ids,
            )
            t.op("aten::mm", kernel=kernel)
    return Run(t.trace())


@pytest.mark.parametrize(("copy", "kernel", "ratio"), [(600, 900, 0.4), (600, 100, 0.4), (300, 300, 0.5)])
def test_pinning_saves_the_copy_by_its_bandwidth(copy: int, kernel: int, ratio: float) -> None:
    """Pageable on the compute stream: M (1 - BW_page / BW_pinned), and what the blocked host could not issue meanwhile."""
    run = copying(copy, kernel, blocks=True)
    rows = run.trace.rows(Category.MEMCPY)
    edit = AsyncCopies(rows, np.full(len(rows), int(copy * ratio) * US))
    after = copy * ratio + kernel  # the stream never runs dry any more
    assert run.replay.step_ns([edit]) / US == pytest.approx(after, abs=2)


@pytest.mark.parametrize("kernel", [700, 200])
def test_a_prefetched_copy_hides_behind_what_is_computed(kernel: int) -> None:
    """On a stream of its own the copy costs max(0, M - C)."""
    copy = 400
    run = copying(copy, kernel, blocks=False)
    rows = run.trace.rows(Category.MEMCPY)
    assert run.replay.measured_ns / US == pytest.approx(copy + kernel, abs=1)
    assert run.replay.step_ns([MoveToStream(rows)]) / US == pytest.approx(max(copy, kernel), abs=5)


@pytest.mark.parametrize(("before", "after"), [(1000, 20), (300, 5)])
def test_a_sync_costs_the_idle_time_until_the_queue_refills(before: int, after: int) -> None:
    """S: the sync's own length is no loss while the device works; the launches that had to wait for it are."""
    t = Timeline()
    for _ in range(STEPS):
        with t.step():
            t.op("aten::mm", kernel=before)
            t.sync()
            for _ in range(after):
                t.op("aten::add", kernel=4)
    run = Run(t.trace())
    split = median_split(run)
    idle = (split.causes["sync"] + split.causes["launch"]) / US
    assert saved(run, DropWaits(run.host.blocking_rows)) == pytest.approx(idle, abs=6)


@pytest.mark.parametrize(("ops", "host", "kernel", "factor"), [(50, 20, 5, 0.5), (50, 20, 5, 0.1), (30, 12, 9, 0.5)])
def test_launch_bound_steps_end_at_the_device(ops: int, host: int, kernel: int, factor: float) -> None:
    """T' = max(C, H r): launching takes the fraction r of its time until the device is what limits."""
    t = Timeline()
    for _ in range(STEPS):
        with t.step():
            for _ in range(ops):
                t.op("aten::add", kernel=kernel, host=host)
    run = Run(t.trace())
    everything = Intervals(np.array([0]), np.array([int(run.trace.events.end.max())]))
    expected = max(ops * kernel, ops * host * factor)
    assert run.replay.step_ns([ScaleHost(everything, factor)]) / US == pytest.approx(expected, rel=0.02)


def test_a_graph_replaces_the_launches_of_its_region() -> None:
    """40 launches of 20 us with kernels of 5 become one: L of the region goes, one launch and C stay."""
    t = Timeline()
    for _ in range(STEPS):
        with t.step():
            for _ in range(40):
                t.op("aten::add", kernel=5, host=20)
    run = Run(t.trace())
    calls = run.host.busy
    step = run.replay.step_ns([ScaleHost(calls, 1 / 40)]) / US
    assert step == pytest.approx(max(40 * 5, 20), rel=0.05)


@pytest.mark.parametrize("fused", [30, 120])
def test_a_fused_optimizer_is_one_pass(fused: int) -> None:
    """Idle of the loop and t_opt - bytes / BW: the host's loop and all but the one pass over memory go."""
    t = Timeline()
    for _ in range(STEPS):
        with t.step():
            t.op("aten::mm", kernel=400)
            with t.span("Optimizer.step#AdamW.step"):
                for _ in range(60):
                    t.op("aten::addcdiv_", kernel=4, host=15)
    run = Run(t.trace())
    rows, loops = (
        of_name(run, "aten::addcdiv_"),
        spans(run, of_name(run, "Optimizer.step#AdamW.step", Category.ANNOTATION)),
    )
    group = np.searchsorted(run.steps.host_start[1:], run.trace.events.start[rows], side="right")
    edit = MergeLaunches(rows, group, np.full(int(group.max()) + 1, fused * US), loops, host_factor=1 / 60)
    assert run.replay.step_ns([edit]) / US == pytest.approx(400 + fused, rel=0.05)


@pytest.mark.parametrize(("matmul", "share"), [(600, 0.25), (600, 0.5)])
def test_faster_products_obey_amdahl(matmul: int, share: float) -> None:
    """Sum over kernels of t (1 - new / t): the rest of the step stays."""
    t = Timeline()
    for _ in range(STEPS):
        with t.step():
            t.op("aten::mm", kernel=matmul)
            t.op("aten::relu", kernel=150)
    run = Run(t.trace())
    rows = of_name(run, "aten::mm")
    assert saved(run, ScaleDevice(rows, np.full(len(rows), share))) == pytest.approx(matmul * (1 - share), abs=1)


def ddp(compute: int, collective: int) -> Run:
    """Forward, backward, an all-reduce that waits for backward, an optimizer that waits for the all-reduce."""
    t = Timeline()
    for _ in range(STEPS):
        with t.step():
            end = t.op("aten::mm", kernel=compute)
            done = t.op(
                "c10d::allreduce_", kernel=collective, kernel_name="ncclDevKernel_AllReduce_Sum", stream=20, ready=end
            )
            t.op("aten::add_", kernel=50, ready=done)
    return Run(t.trace())


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_fewer_bytes_shorten_the_exposed_communication(share: float) -> None:
    """Compressed gradients: X (1 - share)."""
    run = ddp(300, 400)
    rows = of_name(run, "ncclDevKernel_AllReduce_Sum")
    assert median_split(run).communication == pytest.approx(400 * US, abs=2 * US)
    assert saved(run, ScaleDevice(rows, np.full(len(rows), share))) == pytest.approx(400 * (1 - share), abs=3)


def test_accumulation_without_syncs_keeps_one_collective_of_n() -> None:
    """X (1 - 1 / n): of the four all-reduces of a step only the last stays."""
    t = Timeline()
    for _ in range(STEPS):
        with t.step():
            for _ in range(4):
                end = t.op("aten::mm", kernel=200)
                end = t.op(
                    "c10d::allreduce_", kernel=100, kernel_name="ncclDevKernel_AllReduce_Sum", stream=20, ready=end
                )
                t.free[7] = max(t.free[7], end)  # the next micro-batch waits for it
    run = Run(t.trace())
    rows = of_name(run, "ncclDevKernel_AllReduce_Sum")
    first = rows[np.arange(len(rows)) % 4 != 3]
    assert run.replay.measured_ns / US == pytest.approx(4 * 300, rel=0.03)
    assert saved(run, SetDevice(first, np.zeros(len(first), np.int64))) == pytest.approx(3 * 100, rel=0.06)


@pytest.mark.parametrize("kernel", [100, 600])
def test_garbage_collection_costs_what_the_device_does_not_hide(kernel: int) -> None:
    """GC and idle: a pause of 400 us is hidden by a kernel longer than it, and costs the rest otherwise."""
    pause = 400
    t = Timeline()
    for _ in range(STEPS):
        with t.step():
            t.op("aten::mm", kernel=kernel)
            with t.span("gc"):
                t.python(pause)
    run = Run(t.trace())
    edit = ScaleHost(spans(run, of_name(run, "gc", Category.ANNOTATION)))
    assert saved(run, edit) == pytest.approx(max(pause + 10, kernel) - max(10, kernel), abs=1)


def test_recomputed_operators_go_with_their_time() -> None:
    """Recompute time x the share that free memory restores."""
    t = Timeline()
    for _ in range(STEPS):
        with t.step():
            for name in ("aten::mm", "aten::tanh", "aten::mm_again", "aten::mm_backward"):
                t.op(name, kernel=150)
    run = Run(t.trace())
    rows = of_name(run, "aten::mm_again")
    assert saved(run, ScaleDevice(rows, np.full(len(rows), 0.5))) == pytest.approx(75, abs=1)
