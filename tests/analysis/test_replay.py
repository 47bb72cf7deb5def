"""Replay: it reproduces what was recorded, prices edits as the closed forms say, and knows what cannot be saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfu_doctor.analysis.replay.edits import (
    AsyncCopies,
    Change,
    DropWaits,
    Edit,
    MergeLaunches,
    MoveToStream,
    ScaleDevice,
    ScaleHost,
    SetDevice,
    ShortenHost,
    TwoWayLink,
)
from mfu_doctor.analysis.replay.replay import Replay
from mfu_doctor.analysis.run import Options, Run
from mfu_doctor.arrays.intervals import EMPTY, Intervals
from mfu_doctor.trace import Category, Trace
from tests.reference import from_json
from tests.timeline import Timeline
from tests.traces import real_run

US = 1000


def rows_named(trace: Trace, name: str, *categories: Category) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    rows = trace.rows(*(categories or (Category.KERNEL,)))
    return rows[[trace.name_of(int(r)) == name for r in rows]]


def loader_bound(fetch: int = 1000, kernel: int = 400, steps: int = 8) -> Run:
    t = Timeline()
    for _ in range(steps):
        with t.step():
            t.fetch(fetch)
            t.op("aten::mm", kernel=kernel)
    return Run(t.trace())


def test_unchanged_replay_is_the_recorded_run() -> None:
    replay = loader_bound().replay
    assert replay.error == pytest.approx(0, abs=1e-9)
    assert replay.measured_ns == 1010 * US


def test_removing_nothing_saves_nothing() -> None:
    replay = loader_bound().replay
    assert replay.price(Change.exactly(ScaleHost(EMPTY))).high_ns == 0
    assert replay.price(Change((), (), ())).high_ns == 0


def test_a_faster_loader_uncovers_the_device() -> None:
    """T = 1010, kernel 400: without any fetch the device is the bottleneck and 10 us of issuing hide behind it."""
    run = loader_bound()
    assert run.replay.step_ns([ScaleHost(run.host.fetch)]) == pytest.approx(400 * US, rel=0.01)


def test_a_fetch_that_the_device_hides_saves_nothing() -> None:
    run = loader_bound(fetch=300, kernel=400)
    assert run.replay.price(Change.exactly(ScaleHost(run.host.fetch))).high_ns == pytest.approx(0, abs=US)


def test_shortened_fetches_follow_the_closed_form() -> None:
    """Workers deliver a batch each 600 us: the step is max(fetch floor + issue, kernel) = 610."""
    run = loader_bound()
    rows = run.host.fetch_rows
    start, end = run.trace.events.start[rows], run.trace.events.end[rows]
    edit = ShortenHost(start, end, np.full(len(rows), 600 * US))
    assert run.replay.step_ns([edit]) == pytest.approx(610 * US, rel=0.01)


def sync_each_step(kernel: int, after: int = 20) -> Run:
    """A large kernel, `.item()`, then many small ones: the queue drains at the sync and must be refilled."""
    t = Timeline()
    for _ in range(8):
        with t.step():
            t.op("aten::mm", kernel=kernel)
            t.item()
            for _ in range(after):
                t.op("aten::add", kernel=8)
    return Run(t.trace())


def test_a_sync_costs_the_drain_after_it() -> None:
    """Kernels total 1000 + 20 x 8 + 2 (copy); with the sync, the 20 launches of 10 us each start only after the drain."""
    run = sync_each_step(kernel=1000)
    saved = run.replay.price(Change.exactly(DropWaits(run.host.blocking_rows))).mid_ns
    assert run.replay.measured_ns - saved == pytest.approx((1000 + 160 + 2) * US, rel=0.01)
    assert saved > 30 * US


def test_a_sync_on_a_device_bound_run_is_worth_nothing() -> None:
    """A peer measured this on an A100: 34.0 ms with the sync each step, 34.2 without. The queue never runs dry."""
    t = Timeline()
    for _ in range(8):
        with t.step():
            for _ in range(10):
                t.op("aten::mm", kernel=1000)
            t.sync("cudaEventSynchronize", stream=99)  # waits for something long done
    run = Run(t.trace())
    price = run.replay.price(Change.exactly(DropWaits(run.host.blocking_rows)))
    assert price.high_ns < 0.001 * run.replay.measured_ns


def test_halving_kernels_of_a_host_bound_run_saves_nothing() -> None:
    t = Timeline()
    for _ in range(8):
        with t.step():
            for _ in range(50):
                t.op("aten::add", kernel=4, host=20)
    run = Run(t.trace())
    rows = run.activity.row
    assert run.replay.price(Change.exactly(ScaleDevice(rows, np.full(len(rows), 0.5)))).high_ns < 10 * US


def test_halving_kernels_of_a_device_bound_run_halves_the_step() -> None:
    run = loader_bound(fetch=10, kernel=1000)
    rows = run.activity.row
    step = run.replay.step_ns([ScaleDevice(rows, np.full(len(rows), 0.5))])
    assert step == pytest.approx(500 * US, rel=0.01)
    assert run.replay.step_ns([SetDevice(rows, np.full(len(rows), 700 * US))]) == pytest.approx(700 * US, rel=0.01)


def test_edits_compose_and_the_bottleneck_moves() -> None:
    """Alone, the loader fix leaves 400 (device) and the kernel fix leaves 1010 (loader); together 200."""
    run = loader_bound()
    rows = run.activity.row
    faster: Edit = ScaleDevice(rows, np.full(len(rows), 0.5))
    no_fetch: Edit = ScaleHost(run.host.fetch)
    assert run.replay.step_ns([faster]) == pytest.approx(1010 * US, rel=0.01)
    assert run.replay.step_ns([no_fetch]) == pytest.approx(400 * US, rel=0.01)
    assert run.replay.step_ns([faster, no_fetch]) == pytest.approx(200 * US, rel=0.02)
    assert run.replay.step_ns([no_fetch, faster]) == run.replay.step_ns([faster, no_fetch])


def pageable() -> Run:
    t = Timeline()
    for _ in range(8):
        with t.step():
            ids: dict[str, Any] = {"correlation": t._id()}
            t.add("cuda_runtime", "cudaMemcpyAsync", t.now, 800, **ids)
            t.device("Memcpy HtoD (Pageable -> Device)", 790, cat="gpu_memcpy", bytes=8_000_000, **ids)
            t.now += 800
            t.op("aten::mm", kernel=1000)
    return Run(t.trace())


def test_a_pageable_copy_blocks_and_a_pinned_one_does_not() -> None:
    """The copy (790) blocks the host and the stream: pinned and twice as fast it only takes its device time."""
    run = pageable()
    copies = rows_named(run.trace, "Memcpy HtoD (Pageable -> Device)", Category.MEMCPY)
    step = run.replay.step_ns([AsyncCopies(copies, np.full(len(copies), 395 * US))])
    assert step == pytest.approx((1000 + 395) * US, rel=0.01)


def test_a_pinned_copy_on_its_own_stream_is_hidden() -> None:
    run = pageable()
    copies = rows_named(run.trace, "Memcpy HtoD (Pageable -> Device)", Category.MEMCPY)
    step = run.replay.step_ns([AsyncCopies(copies, np.full(len(copies), 395 * US)), MoveToStream(copies)])
    assert step == pytest.approx(1000 * US, rel=0.01)


def test_a_wait_across_streams_holds_under_edits() -> None:
    """Compute, then a collective that waits for it, then compute that waits for the collective: a faster collective helps."""
    t = Timeline()
    for _ in range(8):
        with t.step():
            end = t.op("aten::mm", kernel=300)
            comm = t.op("c10d::allreduce_", kernel=700, kernel_name="ncclDevKernel_AllReduce", stream=20, ready=end)
            t.op("aten::add_", kernel=100, ready=comm)
    run = Run(t.trace())
    assert run.replay.error == pytest.approx(0, abs=0.01)
    rows = rows_named(run.trace, "ncclDevKernel_AllReduce")
    step = run.replay.step_ns([ScaleDevice(rows, np.full(len(rows), 0.1))])
    assert step == pytest.approx((300 + 70 + 100) * US, rel=0.02)
    mm = rows_named(run.trace, "aten::mm")
    assert run.replay.step_ns([ScaleDevice(mm, np.full(len(mm), 0.5))]) == pytest.approx(
        (150 + 700 + 100) * US, rel=0.02
    )


def test_a_full_queue_blocks_the_host() -> None:
    """Far ahead of the device, a launch waits for room: time spent so is not host work and cannot be saved."""
    t = Timeline()
    limit, kernel = 1000, 20
    queue: list[int] = []
    for _ in range(5):
        with t.step():
            for _ in range(600):
                if len(queue) >= limit and queue[-limit] > t.now:
                    at, wait = t.now, queue[-limit] - t.now
                    ids: dict[str, Any] = {"correlation": t._id()}
                    t.call("cudaLaunchKernel", wait + 4, **ids)
                    t.now = at + wait
                    queue.append(t.device("aten::add", kernel, **ids) - kernel)
                    t.now = at + wait + 4
                else:
                    queue.append(t.op("aten::add", kernel=kernel, host=8) - kernel)
    run = Run(t.trace())
    assert run.replay.measured_ns == pytest.approx(600 * kernel * US, rel=0.01)
    assert abs(run.replay.error) < 0.01
    everything = Intervals(np.array([0]), np.array([int(run.trace.events.end.max())]))
    assert run.replay.step_ns([ScaleHost(everything, 0.5)]) == pytest.approx(600 * kernel * US, rel=0.01)
    rows = run.activity.row
    twice = run.replay.step_ns([ScaleDevice(rows, np.full(len(rows), 0.5))])
    assert twice == pytest.approx(600 * 10 * US, rel=0.02)


def test_merging_an_unfused_optimizer() -> None:
    """100 kernels of 3 us launched every 20 us become one of 50 us: the loop's host time goes with them."""
    t = Timeline()
    for _ in range(8):
        with t.step():
            t.op("aten::mm", kernel=500)
            with t.span("Optimizer.step#Adam.step"):
                for _ in range(100):
                    t.op("aten::addcmul_", kernel=3, host=20)
    run = Run(t.trace())
    rows = rows_named(run.trace, "aten::addcmul_")
    group = np.searchsorted(run.steps.host_start[1:], run.trace.events.start[rows], side="right")
    spans = rows_named(run.trace, "Optimizer.step#Adam.step", Category.ANNOTATION)
    where = Intervals(run.trace.events.start[spans], run.trace.events.end[spans])
    size = int(group.max()) + 1
    edit = MergeLaunches(rows, group, np.full(size, 50 * US), where, host_factor=0.01)
    assert run.replay.step_ns([edit]) == pytest.approx(550 * US, rel=0.06)


def test_merging_nothing_changes_nothing() -> None:
    run = loader_bound()
    none = np.zeros(0, np.int64)
    assert run.replay.step_ns([MergeLaunches(none, none, none, EMPTY)]) == run.replay.measured_ns


def test_a_cpu_run_is_its_operators_and_the_gaps_between() -> None:
    t = Timeline(device=None)
    for _ in range(6):
        with t.step():
            t.fetch(300)
            t.op("aten::mm", host=500)
            t.python(200)
    run = Run(t.trace())
    assert run.replay.error == 0
    assert run.replay.step_ns([ScaleHost(run.host.fetch)]) == pytest.approx(700 * US)
    rows = rows_named(run.trace, "aten::mm", Category.CPU_OP)
    assert run.replay.step_ns([ScaleDevice(rows, np.full(len(rows), 0.5))]) == pytest.approx(750 * US)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 80), st.booleans()), min_size=1, max_size=12))
def test_no_fix_makes_a_run_slower_and_none_saves_more_than_the_step(ops: list[tuple[int, int, bool]]) -> None:
    t = Timeline()
    for _ in range(5):
        with t.step():
            for kernel, python, syncs in ops:
                t.op("aten::mm", kernel=kernel)
                t.python(python)
                if syncs:
                    t.sync()
    replay: Replay = Run(t.trace()).replay
    run = Run(t.trace())
    rows = run.activity.row
    edits: list[Edit] = [
        DropWaits(run.host.blocking_rows),
        ScaleDevice(rows, np.full(len(rows), 0.3)),
        ScaleHost(Intervals(np.array([0]), np.array([int(run.trace.events.end.max())])), 0.5),
    ]
    for edit in edits:
        after = replay.step_ns([edit])
        assert 0 <= after <= replay.measured_ns * (1 + 1e-9)
    assert abs(replay.base_ns / replay.measured_ns - 1) < 1e-3


def without_call_of(t: Timeline, nth: int) -> Run:
    """The drawn run with the launch call of every nth kernel lost."""
    ids = [e["args"]["correlation"] for e in t.events if e["cat"] == "kernel"][::nth]
    lost = [e for e in t.events if e["cat"] == "cuda_runtime" and e["args"].get("correlation") in set(ids)]
    return Run(from_json(t.header | {"traceEvents": [e for e in t.events if e not in lost]}))


@pytest.mark.parametrize("nth", [2, 3, 7])
def test_kernels_whose_launch_calls_were_lost_stay_where_they_ran(nth: int) -> None:
    """CUPTI drops records: such a kernel is issued when its operator begins, not before the trace."""
    t = Timeline()
    for _ in range(8):
        with t.step():
            t.fetch(500)
            for _ in range(5):
                t.op("aten::mm", kernel=100)
    run = without_call_of(t, nth)
    assert abs(run.replay.error) < 0.02
    assert run.replay.step_ns([ScaleHost(run.host.fetch)]) == pytest.approx(500 * US, rel=0.05)


def test_a_kernel_without_call_and_operator_follows_the_one_before_it() -> None:
    t = Timeline()
    for _ in range(8):
        with t.step():
            t.fetch(500)
            t.op("aten::mm", kernel=100)
            t.device("orphan_kernel", 100)
    run = Run(t.trace())
    assert abs(run.replay.error) < 0.02
    assert run.replay.step_ns([ScaleHost(run.host.fetch)]) == pytest.approx(200 * US, rel=0.05)


def test_without_any_launch_call_no_prediction_is_made() -> None:
    t = Timeline()
    for _ in range(8):
        with t.step():
            t.fetch(500)
            t.op("aten::mm", kernel=100)
    run = without_call_of(t, 1)
    assert not run.replay.trusted
    assert "launch calls" in str(run.replay.distrust)


def test_a_whole_trace_without_steps_gets_faster_with_its_kernels() -> None:
    """No marks and no period: the window is all the device's work, and it ends when that ends."""
    t = Timeline()
    for i in range(6):
        t.op(f"aten::op{i}", kernel=1000 + i)
    run = Run(t.trace())
    assert run.steps.source == "whole trace"
    rows = run.activity.row
    assert run.replay.measured_ns == pytest.approx(6015 * US, rel=0.01)
    assert run.replay.step_ns([ScaleDevice(rows, np.full(len(rows), 0.5))]) == pytest.approx(3007 * US, rel=0.02)


def test_one_chosen_step_of_many_is_replayed_like_all_of_them() -> None:
    run = loader_bound()
    one = Run(run.recorded, Options(steps=(3, 4))).replay
    assert one.measured_ns == run.replay.measured_ns
    assert abs(one.error) < 0.02
    assert one.step_ns([ScaleHost(run.host.fetch)]) == pytest.approx(
        run.replay.step_ns([ScaleHost(run.host.fetch)]), rel=0.1
    )


def host_only(pieces: int = 4, steps: int = 6) -> Run:
    t = Timeline(device=None)
    for _ in range(steps):
        with t.step():
            for _ in range(pieces):
                t.python(200)
                t.op("aten::mm", host=100)
    return Run(t.trace())


def halves(run: Run) -> tuple[Intervals, Intervals]:
    """The host time between operators, its first and second 100 us of each piece."""
    rows = run.activity.row
    start = np.sort(run.trace.events.start[rows])
    return Intervals(start - 200 * US, start - 100 * US), Intervals(start - 100 * US, start)


def test_host_edits_on_disjoint_time_add_up() -> None:
    run = host_only()
    first, second = halves(run)
    apart = run.replay.step_ns([ScaleHost(first), ScaleHost(second)])
    assert apart == run.replay.step_ns([ScaleHost(first | second)]) == pytest.approx(400 * US)
    assert run.replay.step_ns([ScaleHost(first, 0.5)]) == pytest.approx(1000 * US)


def test_asking_for_the_same_host_time_twice_saves_it_once() -> None:
    run = host_only()
    first, second = halves(run)
    once = run.replay.step_ns([ScaleHost(first, 0.5)])
    assert run.replay.step_ns([ScaleHost(first, 0.5), ScaleHost(first, 0.5)]) == once
    keep = np.full(first.count, 20 * US)
    assert run.replay.step_ns([ScaleHost(first, 0.5), ShortenHost(first.start, first.end, keep)]) == pytest.approx(
        880 * US
    )
    wide = ScaleHost(first | second, 0.75)
    assert run.replay.step_ns([wide, ScaleHost(first, 0.5)]) == pytest.approx((1200 - 4 * 50 - 4 * 25) * US)


def mixed(*, device: bool) -> Run:
    t = Timeline() if device else Timeline(device=None)
    for _ in range(6):
        with t.step():
            t.fetch(300)
            for kernel in (200, 20, 80):
                t.op(f"aten::op{kernel}", kernel=kernel if device else None, host=60)
                t.python(40)
    return Run(t.trace())


DRAWN = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 500), st.integers(1, 300), st.floats(0.0, 1.0)), min_size=1, max_size=5
)


def edit_of(run: Run, drawn: tuple[int, int, int, float]) -> Edit:
    """An edit that does the same in every step: to the host time at an offset, or to the operators of one name."""
    kind, at, length, factor = drawn
    begin = run.trace.events.start[run.host.fetch_rows] + at * US  # every step, the one that closes the last window too
    where = Intervals(begin, begin + length * US)
    name = run.trace.events.name[run.activity.row]
    rows = np.unique(run.activity.row[name == np.unique(name)[at % 3]])
    took = run.trace.events.end[rows] - run.trace.events.start[rows]
    if kind == 0:
        return ScaleHost(where, factor)
    if kind == 1:
        return ShortenHost(where.start, where.end, np.full(where.count, int(factor * length * US)))
    if kind == 2:
        return ScaleDevice(rows, np.full(len(rows), factor))
    if kind == 3:
        return SetDevice(rows, (took * factor).astype(np.int64))
    return MergeLaunches(rows, np.arange(len(rows)), (took * factor).astype(np.int64), where, factor)


@settings(max_examples=100, deadline=None)
@given(DRAWN, st.booleans(), st.randoms(use_true_random=False))
def test_edits_compose_in_any_order_and_one_more_never_slows(
    drawn: list[tuple[int, int, int, float]], device: bool, random: Any
) -> None:
    """Any set of edits has one price whatever its order, and one more edit that only shortens cannot lengthen the step."""
    run = mixed(device=device)
    edits = [edit_of(run, d) for d in drawn]
    base = run.replay.step_ns(edits)
    shuffled = list(edits)
    random.shuffle(shuffled)
    assert run.replay.step_ns(shuffled) == pytest.approx(base, rel=1e-9)
    for more in ((0, 0, 400, 0.3), (2, 1, 1, 0.4), (3, 2, 1, 0.1)):
        assert run.replay.step_ns([*edits, edit_of(run, more)]) <= base + US  # a boundary may move within a launch


def test_of_two_merges_that_share_an_operation_the_one_that_removes_more_is_made() -> None:
    """Five kernels of 100 us: all of them in one of 150 saves 350; the middle three in one of 120 would save 180. Both: 350."""
    t = Timeline()
    for _ in range(6):
        with t.step():
            for _ in range(5):
                t.op("aten::mul", kernel=100)
            t.op("aten::mm", kernel=300)
    run = Run(t.trace())
    rows = rows_named(run.trace, "aten::mul").reshape(-1, 5)
    steps = np.arange(len(rows))

    def merged(some: Any, cost: int) -> Edit:
        return MergeLaunches(some.ravel(), np.repeat(steps, some.shape[1]), np.full(len(rows), cost * US), EMPTY, 1.0)

    wide, narrow = merged(rows, 150), merged(rows[:, 1:4], 120)
    assert run.replay.step_ns([wide]) == pytest.approx(450 * US, rel=0.01)
    assert run.replay.step_ns([narrow]) == pytest.approx(620 * US, rel=0.01)
    assert run.replay.step_ns([wide, narrow]) == run.replay.step_ns([narrow, wide]) == run.replay.step_ns([wide])


TRAINING = {
    "v100_resnet50_workers0": 0.01,
    "v100_resnet50_workers4": 0.01,
    "a100_dlrm_rank3of8": 0.01,
    "a100_resnet50_ddp_rank0of2": 0.01,
    "mi300x_resnet_checkpoint_rank0of8": 0.03,
    "mi250_minitoy_train": 0.01,
    "two_ranks/rank0": 0.01,
    "two_ranks/rank1": 0.01,
}


@pytest.mark.parametrize(("name", "limit"), TRAINING.items(), ids=lambda v: str(v).partition(".")[0])
def test_replay_error_on_real_training_runs(name: str, limit: float) -> None:
    """The model alone (typical latencies, no operation's own recorded delay) reproduces real steps."""
    assert abs(real_run(name).replay.error) <= limit


def test_v100_loader_prediction_against_the_run_with_workers() -> None:
    """Without loader waits replay predicts 118.7 ms; with 4 workers the machine really ran 128.0 ms (176 ms before)."""
    before = real_run("v100_resnet50_workers0")
    after = real_run("v100_resnet50_workers4")
    predicted = before.replay.step_ns([ScaleHost(before.host.fetch)]) / 1e6
    really = float(np.median(after.steps.duration[after.steps.steady])) / 1e6
    assert predicted == pytest.approx(118.7, abs=0.1)
    assert abs(predicted / really - 1) < 0.08


def test_a_step_is_not_shorter_than_what_one_stream_does_in_it() -> None:
    """300 us of kernels beside 800 us of copies on another stream: without the wait for both, copies follow each other."""
    t = Timeline()
    for _ in range(8):
        with t.step():
            t.op("aten::mm", kernel=300)
            name = "Memcpy DtoH (Device -> Pinned)"
            t.op("aten::copy_", kernel=800, kernel_name=name, cat="gpu_memcpy", stream=20)
            t.sync("cudaDeviceSynchronize")
            t.python(100)
    run = Run(t.trace())
    freed: Edit = DropWaits(run.host.blocking_rows)
    assert run.replay.step_ns([freed]) == pytest.approx(800 * US, rel=0.01)
    faster: Edit = ScaleDevice(run.activity.row, np.full(len(run.activity.row), 0.5))
    assert run.replay.step_ns([freed, faster]) == pytest.approx(400 * US, rel=0.01)


def test_copies_on_two_streams_share_one_link() -> None:
    """400 us of copies on each of two streams: 800 us of the link, unless it carries both ways at once."""
    t = Timeline()
    for _ in range(8):
        with t.step():
            t.op("aten::mm", kernel=100)
            for way, stream in (("HtoD (Pinned -> Device)", 20), ("DtoH (Device -> Pinned)", 21)):
                t.op("aten::copy_", kernel=400, kernel_name=f"Memcpy {way}", cat="gpu_memcpy", stream=stream)
                t.sync(stream=stream)
    run = Run(t.trace())
    freed: Edit = DropWaits(run.host.blocking_rows)
    assert run.replay.step_ns([freed]) == pytest.approx(800 * US, rel=0.01)
    assert run.replay.step_ns([freed, TwoWayLink()]) == pytest.approx(400 * US, rel=0.01)
