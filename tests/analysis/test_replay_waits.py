"""Who waits for whom in the replay, where it is easily got wrong: all streams, other threads, waits that never were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.replay.edits import Change, MergeLaunches, ScaleDevice, ScaleHost, SetDevice
from mfu_doctor.analysis.replay.replay import WITHHOLD_ABOVE, Replay
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import EMPTY, Intervals
from mfu_doctor.facts import Facts
from tests.timeline import WORKER, Timeline

US = 1000
SIDE = 20  # a second stream


def rows_of(run: Run, name: str) -> Any:
    return np.array([row for row in run.activity.row if run.trace.name_of(int(row)) == name], np.int64)


def step_with(run: Run, name: str, factor: float) -> float:
    """Microseconds of the step when the kernels of one name take this part of their time."""
    rows = rows_of(run, name)
    return run.replay.step_ns([ScaleDevice(rows, np.full(len(rows), factor))]) / US


def test_a_device_synchronisation_waits_for_the_stream_that_ends_last() -> None:
    """100 us on one stream and 1000 us on the other, then 500 us of Python: only the longer one is worth anything."""
    t = Timeline()
    for _ in range(6):
        with t.step():
            t.op("aten::add", kernel=100)
            t.op("aten::mm", kernel=1000, stream=SIDE)
            t.sync("cudaDeviceSynchronize")
            t.python(500)
    run = Run(t.trace())
    whole = run.replay.measured_ns / US
    assert step_with(run, "aten::mm", 0.5) == pytest.approx(whole - 500, abs=5)
    assert step_with(run, "aten::add", 0.5) == pytest.approx(whole, abs=5)


def test_a_thread_goes_on_when_its_own_wait_is_over_whatever_another_one_does() -> None:
    """The other thread launches all the while; without its pauses it is done sooner, and this one still waits for its kernel."""
    t = Timeline()
    pauses: list[int] = []
    for _ in range(6):
        with t.step():
            t.op("aten::mm", kernel=1000)
            begin = t.now
            t.sync()
            launches = [*range(begin + 100, begin + 900, 100), t.now - 3]  # the last one ends after the wait does
            for at in launches:
                ids = {"correlation": t._id()}
                t.add("cuda_runtime", "cudaLaunchKernel", at, 10, tid=WORKER, **ids)
                t.add("kernel", "other", at + 5, 5, pid=0, tid=30, device=0, stream=30, **ids)
            pauses.append(begin + 110)
            t.python(20)
            t.op("aten::add", kernel=800, stream=SIDE)
            t.sync(stream=SIDE)
    run = Run(t.trace())
    start = np.array(pauses, np.int64) * US
    faster = run.replay.step_ns([ScaleHost(Intervals(start, start + 790 * US))])
    assert faster == pytest.approx(run.replay.measured_ns, abs=40 * US)


def test_a_wait_that_the_recorded_times_contradict_is_not_believed() -> None:
    """The wait call before the addition was for something else: the addition ran beside the collective, and still does.

    Then the collective is the longest part of the step, which cannot be shorter than it.
    """
    t = Timeline()
    for _ in range(8):
        with t.step():
            end = t.op("aten::mm", kernel=200)
            t.op("c10d::allreduce_", kernel=900, kernel_name="ncclDevKernel_AllReduce", stream=SIDE, ready=end)
            t.call("cudaStreamWaitEvent", 2)
            t.op("aten::add", kernel=900)
    run = Run(t.trace())
    assert run.replay.measured_ns == pytest.approx(1100 * US, rel=0.01)
    assert run.replay.error == pytest.approx(0, abs=0.02)
    assert step_with(run, "aten::add", 0.5) == pytest.approx(900, rel=0.02)


def device_bound() -> Run:
    t = Timeline()
    for _ in range(6):
        with t.step():
            for _ in range(5):
                t.op("aten::mul", kernel=100)
    return Run(t.trace())


def test_what_a_fix_makes_longer_is_charged() -> None:
    run = device_bound()
    rows = rows_of(run, "aten::mul")
    assert run.replay.step_ns([SetDevice(rows, np.full(len(rows), 200 * US))]) == pytest.approx(1000 * US, rel=0.01)


def test_merged_kernels_never_cost_more_than_they_did_apart() -> None:
    """The cost of the merged kernel is an estimate from its traffic: above what was measured it is simply wrong."""
    run = device_bound()
    rows = rows_of(run, "aten::mul")
    group = np.arange(len(rows)) // 5
    cost = np.full(int(group.max()) + 1, 5_000 * US)
    assert run.replay.step_ns([MergeLaunches(rows, group, cost, EMPTY, 1.0)]) == pytest.approx(500 * US, rel=0.01)


@pytest.mark.parametrize(("longer", "trusted"), [(0.8, False), (0.95, True), (1.0, True), (1.05, True), (1.25, False)])
def test_a_replay_that_is_off_either_way_predicts_nothing(longer: float, trusted: bool) -> None:
    """Too short a replay is as wrong as too long a one: what it left out may be what a fix removes."""
    run = device_bound()
    timeline = run.replay.recorded
    off = Replay(replace(timeline, measured_ns=timeline.measured_ns * longer), run.activity.row, timeline)
    assert (abs(off.error) <= WITHHOLD_ABOVE) == trusted
    assert off.trusted == trusted


def test_a_widened_price_is_not_more_than_the_whole_step() -> None:
    run = device_bound()
    timeline = run.replay.recorded
    off = Replay(replace(timeline, measured_ns=timeline.measured_ns * 1.05), run.activity.row, timeline)
    everything = Intervals(np.array([0]), np.array([int(run.trace.events.end.max())]))
    rows = rows_of(run, "aten::mul")
    gone = Change.exactly(ScaleHost(everything), ScaleDevice(rows, np.zeros(len(rows))))
    price = off.price(gone)
    assert price.low_ns < price.mid_ns <= price.high_ns <= off.measured_ns


def test_operators_of_a_slower_recording_take_their_part_of_the_steps_own_time() -> None:
    """Recorded 8000 us of Python and 2000 of operators, without the profiler 6000: the operators are 1200 us of those."""
    t = Timeline(device=None)
    for _ in range(6):
        with t.step():
            t.op("aten::mm", host=1000)
            t.python(8000)
            t.op("aten::mm", host=1000)
    run = Run(replace(t.trace(), facts=Facts(timed_steps_s=(6000e-6,) * 9)))
    judged = run.unrecorded_ns[run.activity.start >= run.steps.start[run.steps.steady].min()]
    assert judged.mean() / US == pytest.approx(600, rel=0.02)
