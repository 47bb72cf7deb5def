"""The window that rules look through: host evidence belongs to the device windows it explains, and shares are the report's."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.evidence.attribution import device_ns
from mfu_doctor.analysis.evidence.steady_steps import part_of, steady_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import union
from mfu_doctor.facts import Facts
from mfu_doctor.rules.communication.exposed_communication import exposed_communication
from mfu_doctor.rules.host.host_bound import host_bound
from mfu_doctor.rules.input.input_bound import input_bound
from tests.rules.drawing import collective, compute, wait_for_collectives
from tests.rules.judging import found, run_of
from tests.timeline import Timeline


def fetching(fetches: tuple[int, ...]) -> Run:
    """A GPU run whose step begins with a fetch: the device waits for it at the end of the window before."""
    drawn = Timeline()
    for us in fetches:
        with drawn.step():
            drawn.fetch(us)
            drawn.op("aten::mm", kernel=1_000, host=100)
    return run_of(drawn)


def test_the_fetch_that_a_window_waits_for_is_counted_in_that_window() -> None:
    run = fetching((500, 500, 500, 500, 500, 9_000))
    steady = steady_of(run)
    rows = steady.issued(run, run.host.fetch_rows)
    # windows open with the kernels of steps 1 to 4 and end with those of steps 2 to 5, whose fetches lie in between
    assert len(rows) == steady.count == 4
    assert (run.trace.events.end - run.trace.events.start)[rows].max() == 9_000_000


def test_the_host_windows_of_a_device_run_are_as_many_launches_as_the_device_windows_have_kernels() -> None:
    run = fetching((100,) * 6)
    steady = steady_of(run)
    launches = run.launches.call[steady.entries(run)]
    assert set(steady.issued(run, launches).tolist()) == set(launches.tolist())


def test_shares_are_those_of_the_step_that_the_report_shows() -> None:
    # steps of 1.6, 1.6, 1.6 and 2.6 ms, of which 1.1 ms compute
    run = fetching((1_500, 1_500, 1_500, 1_500, 1_500, 2_500))
    split = run.breakdown.whole
    assert f"{100 * split.data_loading / split.total:.0f} % of the step" in found(input_bound, run).summary
    assert (
        part_of(run, "data_loading").mean_ns == split.data_loading / 4 == pytest.approx(1_850_000 - 1_105_000, rel=0.02)
    )


def test_one_long_wait_has_its_share_of_the_step() -> None:
    run = fetching((0, 0, 20, 20, 20, 20, 20, 60_000))
    assert found(input_bound, run).summary.endswith("90 % of the step")
    assert not part_of(run, "data_loading").is_even


@pytest.mark.parametrize("slow", [0, 600])
def test_host_and_communication_shares_agree_with_the_split(slow: int) -> None:
    drawn = Timeline()
    for i in range(7):
        with drawn.step():
            compute(drawn, 300)
            compute(drawn, 100, host=900 + slow * (i == 5))
            collective(drawn, 300 + slow * (i == 5), size=1 << 20)
            wait_for_collectives(drawn)
    run = run_of(drawn)
    split = run.breakdown.whole
    exposed = f"{100 * split.communication / split.total:.0f} % of the step"
    assert exposed in found(exposed_communication, run).summary
    waits = split.causes["launch"] + split.causes["python"]
    assert f"{100 * waits / split.total:.0f} % of the step" in found(host_bound, run).summary


def test_what_only_a_long_step_has_counts_as_rarely_as_such_steps_come() -> None:
    """One of four recorded steps is long, and none of 96 that were timed: a hundredth, not a quarter, of its pause."""
    drawn = Timeline(device=None)
    for step in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=1_000)
            if step == 3:
                for _ in range(3):
                    drawn.op("aten::relu", host=5_000)
    run = Run(replace(drawn.trace(), facts=Facts(timed_steps_s=(0.001,) * 96)))
    steady = steady_of(run)
    assert steady.step_ns == pytest.approx(1_150_000)
    relu = np.array([run.trace.name_of(int(row)) == "aten::relu" for row in run.activity.row])
    assert device_ns(run, steady, relu) == pytest.approx(150_000)
    assert steady.host_ns(union(run.activity.start[relu], run.activity.end[relu])) == pytest.approx(150_000)
