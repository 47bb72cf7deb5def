"""early-recording: a recording of the run's beginning does not stand for what the run does later."""

from __future__ import annotations

from typing import Any

from mfu_doctor.analysis.run import Run
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.facts.whole_run import WholeRun
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.trace.early_recording import early_recording
from tests.rules.judging import caution, run_of, silent
from tests.timeline import Timeline

US = 1e-6


def first_epoch(fetch: int = 100_000, **later: Any) -> Run:
    """Steps that compute for 60 ms on the CPU and were recorded while each of them waited for data."""
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.fetch(fetch)
            drawn.op("aten::mm", host=60_000)
    beside = ((fetch + 60_000) * US,) * 5
    account = WholeRun(wall_s=10.0, ended=True, steps=120, steps_s=10.0)
    return run_of(drawn, beside_steps_s=beside, whole_run=account, profiled_steps_s=beside, **later)


CACHED: dict[str, Any] = {"timed_steps_s": (0.060,) * 100, "timed_waits_s": (50 * US,) * 100}


def test_a_loader_that_is_slow_in_the_first_epoch_only_is_no_finding_for_good() -> None:
    run = first_epoch(**CACHED)
    assert "waited 100 ms for data while recorded and 50.0 us in the rest of the run" in caution(early_recording, run)
    report = diagnose_run(run).report
    assert report.step_time_s is not None
    assert report.step_time_s.median == 0.060
    assert report.bound != "input-bound"
    assert "input-bound" not in [found.rule for found in report.failed]


def test_a_wait_that_stays_is_priced_at_what_it_is() -> None:
    waiting: dict[str, Any] = {"timed_steps_s": (0.160,) * 100, "timed_waits_s": (0.100,) * 100}
    run = first_epoch(**waiting)
    silent(early_recording, run)
    first = diagnose_run(run).report.failed[0]
    assert first.rule == "input-bound"
    assert first.saving is not None
    assert abs(first.saving.high - 0.100) < 0.001


def test_savings_are_of_the_step_of_the_run_and_not_of_its_beginning() -> None:
    """Everything was 1.6 times as slow at the start, the wait for data too."""
    run = first_epoch(timed_steps_s=(0.100,) * 100, timed_waits_s=(0.0625,) * 100)
    assert "160 ms just before the recording and 100 ms" in caution(early_recording, run)
    saving = diagnose_run(run).report.failed[0].saving
    assert saving is not None
    assert saving.step_high_s is not None
    assert abs(saving.high + saving.step_high_s - 0.100) < 1e-6


def test_a_run_that_ends_with_its_recording_has_no_rest() -> None:
    assert isinstance(early_recording.judge(first_epoch(timed_steps_s=(0.160,) * 5)), Skip)
