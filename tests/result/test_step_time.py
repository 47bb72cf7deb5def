"""The step time is one number: what `report` states, what its MFU and split are of, and what `check` and `compare` judge."""

from __future__ import annotations

import pytest

from mfu_doctor.api.diagnose import diagnose
from mfu_doctor.comparison.compare import compare
from mfu_doctor.comparison.samples import step_sample
from mfu_doctor.gate.judge import check_report
from mfu_doctor.result.report import Report
from mfu_doctor.result.step import RECORDED, TIMED, step_time_of
from tests.runs import report_of
from tests.timeline import Timeline
from tests.traces import real_trace


def uneven() -> Report:
    """Four steps of four lengths."""
    t = Timeline()
    for kernel in (400, 500, 700, 800, 500):
        with t.step():
            t.fetch(50)
            for _ in range(4):
                t.op("aten::mm", kernel=kernel)
    return diagnose(t.trace())


def stated(report: Report) -> float:
    assert report.step_time_s is not None
    return report.step_time_s.stated


def test_the_stated_step_is_the_one_that_is_split() -> None:
    report = uneven()
    assert report.step_time_s is not None
    assert report.step_time_s.source == RECORDED
    assert stated(report) == pytest.approx(report.breakdown.step_s)
    assert stated(report) == pytest.approx(sum(report.step_time_s.samples) / report.step_time_s.n)
    assert sum(bar.seconds for bar in report.waterfall) == pytest.approx(stated(report))


def test_check_and_compare_judge_the_step_that_the_report_states() -> None:
    """One trace was once 175 ms in its report and 177 ms in its check."""
    report = uneven()
    verdict = check_report(report, step_time="1s")
    judged = next(check for check in verdict.checks if check.name == "step-time")
    assert judged.value == pytest.approx(stated(report))
    assert compare(report, report).step.before == pytest.approx(stated(report))


def test_the_real_trace_that_showed_it() -> None:
    report = diagnose(real_trace("v100_resnet50_workers0.pt.trace.json.gz"))
    assert step_sample([report]).value == stated(report) == pytest.approx(0.1757, abs=0.0005)


@pytest.mark.parametrize("source", [TIMED, RECORDED])
def test_the_stated_step_is_the_mean_and_the_median_stands_beside_it(source: str) -> None:
    time = step_time_of([1.0, 1.0, 1.0, 5.0], source)
    assert (time.stated, time.median, time.p95, time.long, time.n) == (2.0, 1.0, 5.0, 1, 4)


def test_few_long_steps_make_the_mean_uncertain() -> None:
    """One long step of four: its share of the run may as well be an eighth or a half."""
    assert step_time_of([1.0, 1.0, 1.0, 5.0], TIMED).spread == pytest.approx(1.0)
    assert step_time_of([1.0, 1.0, 1.0, 5.0] * 100, TIMED).spread == pytest.approx(0.087, abs=0.001)
    assert step_time_of([1.0, 1.1, 0.9] * 100, TIMED).spread == pytest.approx(0.1)


def test_several_runs_are_judged_by_all_their_steps() -> None:
    runs = [report_of([1.0, 1.1, 1.2]), report_of([1.4, 1.5, 1.6])]
    assert step_sample(runs).value == pytest.approx(1.3)
    assert step_sample(runs).n == 6
