"""Every fourth batch comes 400 ms late: the typical step takes 100 ms, the throughput is a step in 200."""

from __future__ import annotations

import pytest

from mfu_doctor import diagnose
from mfu_doctor.analysis.replay.edits import DropWaits, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.render import render
from mfu_doctor.result.findings import FAILED, WITHHELD
from tests.rules.drawing import WORKERS
from tests.timeline import FETCH, Timeline


def bursty(loader: str = WORKERS, *, late: int = 400_000, every: int = 4, steps: int = 24) -> Timeline:
    t = Timeline()
    for step in range(steps):
        with t.step():
            t.fetch(late if step % every == 0 else 100, loader)
            for _ in range(20):
                shapes = [[8192, 8192], [8192, 8192]]
                t.op("aten::mm", kernel=5_000, host=30, dims=shapes, types=["c10::BFloat16"] * 2)
            t.sync()
    return t


def test_the_headline_is_work_over_wall_time() -> None:
    report = diagnose(bursty().trace())
    assert report.step_time_s is not None
    assert report.step_time_s.stated == pytest.approx(0.2002, abs=0.0002)
    assert report.step_time_s.median == pytest.approx(0.1003, abs=0.0003)
    assert report.step_time_s.p95 == pytest.approx(0.5, abs=0.001)
    assert report.mfu.value == pytest.approx(0.352, abs=0.001)
    assert report.breakdown.share("data_loading") == pytest.approx(0.5, abs=0.005)
    assert report.bound == "input-bound"
    assert sum(bar.seconds for bar in report.waterfall) == pytest.approx(report.step_time_s.stated)
    assert report.waterfall[0].seconds / report.breakdown.step_s == pytest.approx(report.mfu.value, rel=1e-3)
    assert any("one in 4" in text for text in report.cautions)
    text = " ".join(render(report, "terminal").split())
    assert "mean of 22 profiled steps, one in 4 long; median 100 ms, p95 500 ms" in text


def test_a_saving_is_of_the_step_and_its_mfu_is_above_todays() -> None:
    report = diagnose(bursty().trace())
    assert report.step_time_s is not None
    found = report.diagnosis("input-bound")
    assert found is not None
    assert found.status == FAILED
    assert found.saving is not None
    assert found.saving.mid == pytest.approx(0.1, rel=0.02)
    for d in report.diagnoses:
        if d.saving is not None:
            assert d.saving.high <= report.step_time_s.stated
            assert (d.saving.mfu_low or 0.0) >= (report.mfu.value or 0.0) - 1e-9


def test_workers_that_are_late_are_not_hidden_by_a_host_that_runs_ahead() -> None:
    """Without the wait for the device the host asks sooner, and waits for the workers as much longer."""
    report = diagnose(bursty().trace())
    found = report.diagnosis("device-sync")
    assert found is not None
    assert found.status == WITHHELD
    assert "only" in str(found.reason)
    run = Run(bursty().trace())
    ahead = run.replay.step_ns((DropWaits(run.host.blocking_rows),))
    assert ahead == pytest.approx(run.replay.measured_ns, rel=0.01)
    ready = run.replay.step_ns((ScaleHost(run.host.fetch),))
    assert ready == pytest.approx(100e6, rel=0.01)


def test_loading_in_the_main_process_is_host_work_that_running_ahead_hides() -> None:
    run = Run(bursty(FETCH).trace())
    ahead = run.replay.step_ns((DropWaits(run.host.blocking_rows),))
    assert ahead < 0.6 * run.replay.measured_ns


def test_the_unchanged_replay_is_exact_with_deliveries() -> None:
    for every, late in ((1, 60_000), (2, 300_000), (3, 400_000)):
        run = Run(bursty(every=every, late=late).trace())
        assert run.replay.recorded.calls.deliveries
        assert abs(run.replay.error) < 0.01
