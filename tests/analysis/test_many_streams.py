"""Waits in runs of many streams: the same edges as by looking through all of them, and no more of them than the file is long."""

from __future__ import annotations

import random

import numpy as np
import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.replay import model
from mfu_doctor.analysis.replay.edit_timeline import apply
from mfu_doctor.analysis.replay.edits import DropWaits
from mfu_doctor.analysis.replay.latest import MOST_STREAMS, Latest
from mfu_doctor.analysis.run import Run
from tests.timeline import Timeline


def searched(stream: list[int], key: list[int], count: int, until: int) -> list[int]:
    """What `Latest` must find, by looking at every stream."""
    last = {s: i for i, s in enumerate(stream[:count])}
    found = sorted((key[i], -s, i) for s, i in last.items() if key[i] <= until)
    return [i for _, _, i in found][-MOST_STREAMS:]


@pytest.mark.parametrize("streams", [1, 5, 100])
def test_the_latest_of_each_stream_are_those_of_a_search(streams: int) -> None:
    rng = random.Random(streams)
    stream = [rng.randrange(streams) for _ in range(300)]
    key = [rng.randrange(50) for _ in stream]
    latest = Latest(np.array(stream), np.array(key))
    count = 0
    while count < len(stream):
        until = rng.randrange(60)
        assert latest.among(count, until) == searched(stream, key, count, until)
        count = min(count + rng.randrange(8), len(stream))


def run_of(streams: int) -> Run:
    """Steps with an operation on each of so many streams; after each the host waits for the device."""
    t = Timeline()
    for _ in range(4):
        with t.step():
            for stream in range(streams):
                t.op("aten::mm", kernel=30, stream=20 + stream)
                t.sync("cudaDeviceSynchronize")
    return Run(t.trace())


def test_waits_grow_with_the_calls_and_not_with_the_streams() -> None:
    waits = run_of(200).replay.timeline.calls.waits
    assert len(waits) >= 3 * 200
    assert max(len(targets) for _, targets in waits) == MOST_STREAMS


def test_what_a_dropped_wait_ties_together_grows_with_the_operations() -> None:
    run = run_of(200)
    timeline = run.replay.timeline
    rows = timeline.calls.row[[call for call, _ in timeline.calls.waits]]
    single = tuple((call, targets[-1:]) for call, targets in timeline.calls.waits)
    changed = apply(_with_waits(timeline, single), [DropWaits(rows)], run.activity.row)
    added = len(changed.operations.waits) - len(timeline.operations.waits)
    assert not changed.calls.waits
    assert 0 < added <= MOST_STREAMS * len(timeline.operations.entry)


def test_what_was_waited_for_is_still_waited_for_on_the_other_stream() -> None:
    """A synchronisation between work of two streams: without it the second one still comes after the first."""
    t = Timeline()
    for _ in range(6):
        with t.step():
            t.op("aten::mm", kernel=1000)
            t.sync("cudaStreamSynchronize")
            t.op("aten::add", kernel=100, stream=20)
            t.sync("cudaStreamSynchronize")
    run = Run(t.trace())
    timeline = run.replay.timeline
    rows = timeline.calls.row[[call for call, _ in timeline.calls.waits]]
    changed = apply(timeline, [DropWaits(rows)], run.activity.row)
    ops = changed.operations
    tied = {(user, source) for user, source, _ in ops.waits}
    second = np.flatnonzero(np.isin(np.arange(len(ops.entry)) % 2, 1)).tolist()
    assert all((user, user - 1) in tied for user in second)


def _with_waits(timeline: model.Timeline, waits: tuple[tuple[int, tuple[int, ...]], ...]) -> model.Timeline:
    return replace(timeline, calls=replace(timeline.calls, waits=waits))
