"""A launch queue holds so many operations: the host can run no further ahead than that, and replay knows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mfu_doctor.analysis.replay.edits import ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import Intervals
from tests.timeline import Timeline

LIMIT = 600  # operations
KERNELS, KERNEL_US, LAUNCH_US = 900, 20, 2  # of a step: 18 ms on the device, 1.8 ms to issue
PAUSE_US = 14_000  # in the user's Python after the last launch of a step; a full queue lasts 12 ms
STEPS = 4
US = 1000


def launch(t: Timeline, starts: list[int]) -> None:
    """Launch one kernel; with LIMIT operations waiting, the call returns when one of them has started."""
    room_at = starts[-LIMIT] if len(starts) >= LIMIT else 0
    cost = LAUNCH_US + max(room_at - t.now, 0)
    ids: dict[str, Any] = {"correlation": t._id()}
    issued = t.now
    t.call("cudaLaunchKernel", cost, **ids)
    t.now = issued + cost - LAUNCH_US  # the launch itself comes last
    starts.append(t.device("aten::add", KERNEL_US, **ids) - KERNEL_US)
    t.now = issued + cost


def ahead_and_then_away() -> tuple[Run, Intervals]:
    """Steps that fill the queue and then leave it to drain; the run, and when the host was away."""
    t = Timeline()
    starts: list[int] = []
    away: list[int] = []
    for _ in range(STEPS):
        with t.step():
            for _ in range(KERNELS):
                launch(t, starts)
            away.append(t.now)
            t.python(PAUSE_US)
    start = np.array(away, np.int64) * US
    return Run(t.trace()), Intervals(start, start + PAUSE_US * US)


def test_a_pause_that_outlasts_a_full_queue_is_worth_what_it_leaves_the_device_without_work() -> None:
    """600 kernels of 20 us last 12 of the 14 ms: the step is 18 + 2 ms. An endless queue would hide all of the pause."""
    run, away = ahead_and_then_away()
    whole_us = KERNELS * KERNEL_US
    dry_us = PAUSE_US - LIMIT * KERNEL_US
    assert run.replay.measured_ns == pytest.approx((whole_us + dry_us) * US, rel=0.01)
    assert run.replay.error == pytest.approx(0, abs=0.01)
    assert run.replay.step_ns([ScaleHost(away)]) == pytest.approx(whole_us * US, rel=0.01)
    assert run.replay.step_ns([ScaleHost(away, 0.8)]) == pytest.approx(whole_us * US, rel=0.01)
