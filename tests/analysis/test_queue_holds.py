"""Work that is queued and held: by polling, by events of other streams, by what the trace does not contain."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from mfu_doctor.analysis.replay.edits import ScaleDevice
from mfu_doctor.analysis.replay.replay import WITHHOLD_ABOVE
from mfu_doctor.analysis.run import Run
from tests.reference import from_json
from tests.steps import median_split
from tests.timeline import Timeline
from tests.traces import real_run

US = 1000
SIDE = 20


def poll(t: Timeline, until: int) -> None:
    """`while not event.query(): pass`: one query every 12 us until the device is at `until`."""
    while True:
        t.call("cudaEventQuery", 2, correlation=t._id())
        if t.now - 1 >= until:
            return
        t.python(10)


def polling(*, side: bool = True) -> Timeline:
    """The host polls until 1000 us on a side stream are over, then it launches 300 us on the main stream."""
    t = Timeline()
    for _ in range(8):
        with t.step():
            end = t.op("aten::embedding", kernel=1000, stream=SIDE)
            if not side:
                t.events.pop(-2)  # the kernel is on a device that is not in the trace
            poll(t, end)
            for _ in range(3):
                t.op("aten::mm", kernel=100)
            t.sync()
            t.python(50)
    return t


def kernels(t: Timeline, name: str) -> set[int]:
    return {e["args"]["correlation"] for e in t.events if e["cat"] == "kernel" and e["name"] == name}


def without_launches(t: Timeline, name: str, *, operators: bool) -> Run:
    """The drawn run without the launch calls of the kernels of this name, and on request without their operators' ids."""
    unlinked = kernels(t, name)
    kept: list[dict[str, Any]] = []
    for event in t.events:
        if event["cat"] == "cuda_runtime" and event["args"].get("correlation") in unlinked:
            continue
        if event["cat"] == "kernel" and event["name"] == name and not operators:
            event["args"].pop("External id")
        kept.append(event)
    return Run(from_json(t.header | {"traceEvents": kept}))


def shortened(run: Run, name: str) -> float:
    """Microseconds that a step saves when the kernels of one name take half as long."""
    rows = np.array([row for row in run.activity.row if run.trace.name_of(int(row)) == name], np.int64)
    saved = run.replay.measured_ns - run.replay.step_ns([ScaleDevice(rows, np.full(len(rows), 0.5))])
    return saved / US


def test_a_polling_host_waits_for_what_it_polls() -> None:
    run = Run(polling().trace())
    assert len(run.host.polls.row) == 8
    assert run.replay.error == pytest.approx(0, abs=0.01)
    assert shortened(run, "aten::embedding") == pytest.approx(500, abs=15)
    assert shortened(run, "aten::mm") == pytest.approx(150, abs=15)


def test_polling_while_the_device_is_idle_is_waiting_and_not_python() -> None:
    """What is polled is not in the trace: 1000 us a step are a wait of the host."""
    run = Run(polling(side=False).trace())
    split = median_split(run)
    assert split.causes["sync"] / US == pytest.approx(1010, abs=10)
    assert split.causes["python"] + split.causes["launch"] < 80 * US  # 50 us of Python, and what launching takes


def test_queries_of_the_allocator_are_no_polling() -> None:
    """Four queries before an operator, and many in a thread that launches nothing."""
    t = Timeline()
    for _ in range(6):
        with t.step():
            for _ in range(4):
                t.call("cudaEventQuery", 2, correlation=t._id())
            t.op("aten::mm", kernel=100)
    for i in range(500):
        t.add("cuda_runtime", "cudaEventQuery", i * 2, 1, tid=999)
    assert not len(Run(t.trace()).host.polls.row)


@pytest.mark.parametrize("operators", [True, False])
def test_kernels_without_a_launch_follow_the_wait_before_them(operators: bool) -> None:
    """The host polls and launches kernels whose launches were not recorded: they start when the poll is over."""
    run = without_launches(polling(), "aten::mm", operators=operators)
    assert run.replay.error == pytest.approx(0, abs=0.03)
    assert median_split(run).causes["queue"] == 0
    assert shortened(run, "aten::embedding") == pytest.approx(500, abs=25)


def held(us: int, *, wait: bool = True) -> Timeline:
    """A kernel of 100 us waits for 1000 us on a side stream, and for `us` more that are not in the trace."""
    t = Timeline()
    for _ in range(8):
        with t.step():
            end = t.op("aten::embedding", kernel=1000, stream=SIDE)
            if wait:
                t.call("cudaEventRecord", 1, correlation=t._id())
                t.call("cudaStreamWaitEvent", 1, correlation=t._id())
            for _ in range(4):
                t.op("aten::mm", kernel=100, ready=end + us)
            t.sync()
            t.python(50)
    return t


def test_a_stream_that_waits_for_an_event_of_another_stream_is_replayed() -> None:
    run = Run(held(0).trace())
    assert run.replay.error == pytest.approx(0, abs=0.01)
    assert run.replay.unexplained == 0
    assert shortened(run, "aten::embedding") == pytest.approx(500, abs=15)


@pytest.mark.parametrize(("wait", "more"), [(True, 500), (False, 967)])
def test_a_hold_that_the_trace_does_not_explain_is_repeated_and_not_trusted(wait: bool, more: int) -> None:
    """500 of 1967 us: the unchanged replay is right, and nothing is predicted from it. A wait call tells the first 1000."""
    run = Run(held(500, wait=wait).trace())
    assert run.replay.error == pytest.approx(0, abs=0.01)
    assert run.replay.unexplained == pytest.approx(more / 1967, abs=0.02)
    assert run.replay.unexplained > WITHHOLD_ABOVE
    assert "held by what this trace does not show" in str(run.replay.distrust)
    assert median_split(run).causes["queue"] / US == pytest.approx(500, abs=5)


def recommender(dice: random.Random) -> Timeline:
    """Lookups on a side stream that the host polls or the main stream waits for, and exchanges that hold the main stream."""
    t = Timeline()
    for step in range(8):
        with t.step():
            for _ in range(12):
                end = t.op("aten::embedding", kernel=dice.randrange(200, 900), stream=SIDE)
                kind = dice.randrange(4)
                if kind == 0:
                    poll(t, end)
                elif kind == 1:
                    t.call("cudaStreamWaitEvent", 1, correlation=t._id())
                    t.op("aten::mm", kernel=150, ready=end)
                elif kind == 2:
                    done = t.op("nccl:all_to_all", kernel=400, kernel_name="ncclKernel_SendRecv", stream=21, ready=end)
                    t.free[7] = max(t.free.get(7, 0), done + dice.randrange(0, 1500))
                for i in range(6):
                    t.op(f"aten::op{i}", kernel=dice.randrange(10, 60))
            if step % 2:
                t.sync()
            t.python(200)
    return t


@pytest.mark.parametrize("lost", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_polls_waits_and_lost_launches_together_are_replayed(seed: int, lost: float) -> None:
    """No launch call is recorded for this share of the kernels."""
    dice = random.Random(seed)
    t = recommender(dice)
    kernels = [e["args"]["correlation"] for e in t.events if e["cat"] == "kernel"]
    gone = {correlation for correlation in kernels if dice.random() < lost}
    kept = [e for e in t.events if e["cat"] != "cuda_runtime" or e["args"]["correlation"] not in gone]
    run = Run(from_json(t.header | {"traceEvents": kept}))
    assert run.replay.error == pytest.approx(0, abs=0.03)


def test_a_launch_that_is_held_in_an_idle_queue_is_not_launching() -> None:
    """A kernel starts 5 ms after its launch into an idle device: the launch did not take that long."""
    t = Timeline()
    for _ in range(8):
        with t.step():
            t.op("aten::mm", kernel=100, ready=t.now + 5000)
            t.sync()
    causes = median_split(Run(t.trace())).causes
    assert causes["queue"] / US == pytest.approx(4990, abs=10)
    assert causes["launch"] < 20 * US


def test_a_long_graph_may_take_longer_to_start() -> None:
    t = Timeline()
    for _ in range(4):
        with t.step():
            t.call("cudaGraphLaunch", 10, correlation=t._id())
            t.python(290)
            for _ in range(400):
                t.device("node", 5, correlation=t.ids)
            t.now = t.free[7]
    assert median_split(Run(t.trace())).causes["queue"] == 0


def test_a_real_graph_launched_behind_unrecorded_work_is_replayed() -> None:
    """One decode step: its first operations waited 7.8 ms for the step before, which is no launch latency."""
    run = real_run("vllm_decode_graph")
    assert run.replay.error == pytest.approx(0, abs=0.01)
