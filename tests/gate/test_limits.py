"""On which side of a limit a run passes: at it, just beyond it, within its noise, and against a baseline."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.comparison.measures import parse_budgets
from mfu_doctor.comparison.samples import step_sample
from mfu_doctor.errors import DoctorError
from mfu_doctor.gate.judge import Policy, check_report, judge
from mfu_doctor.result.report import Report
from mfu_doctor.result.run import Mfu
from mfu_doctor.result.step import StepRow
from mfu_doctor.result.verdict import FAILED, INCONCLUSIVE, PASSED, Check, Verdict
from tests.runs import finding, report_of, split_of, steady


def check_of(verdict: Verdict, name: str) -> Check:
    return next(check for check in verdict.checks if check.name == name)


def with_workers(count: float) -> Report:
    return report_of(steady(0.4), structure={"loader_workers": count})


@pytest.mark.parametrize(
    ("budget", "workers", "limit", "status"),
    [
        ("+0", 4, 4, PASSED),
        ("+0", 6, 4, PASSED),  # more are welcome
        ("+0", 2, 4, FAILED),
        ("+1", 3, 3, PASSED),
        ("+1", 2, 3, FAILED),
    ],
)
def test_a_measure_that_must_not_fall_may_fall_by_a_relative_budget_and_rise_freely(
    budget: str, workers: float, limit: float, status: str
) -> None:
    """The baseline has four loader workers; "+1" lets a run differ by one for the worse."""
    policy = Policy(budgets=parse_budgets({"loader_workers": budget}))
    check = check_of(judge([with_workers(workers)], policy, baseline=[with_workers(4)]), "loader-workers")
    assert (check.status, check.limit) == (status, limit)


def test_a_run_exactly_at_its_limit_keeps_it() -> None:
    report = report_of(steady(0.4), mfu=Mfu(value=0.3, model_flops=1e14))
    assert check_of(check_report(report, step_time=0.4), "step-time").status == PASSED
    assert check_of(check_report(report, mfu=0.3), "mfu").status == PASSED
    assert check_of(check_report(report, step_time=0.3), "step-time").status == FAILED
    assert check_of(check_report(report, mfu=0.4), "mfu").status == FAILED


@pytest.mark.parametrize(("step_s", "budget", "status"), [(0.04, "33%", INCONCLUSIVE), (4.0, "40%", FAILED)])
def test_mfu_wavers_by_the_same_fraction_as_the_step(step_s: float, budget: str, status: str) -> None:
    """A step that varies by 3 % makes an MFU of 32 % vary by 0.96 points, however many seconds the step takes."""
    report = report_of(steady(step_s, 0.03), mfu=Mfu(value=0.32, model_flops=1e14))
    check = check_of(check_report(report, mfu=budget), "mfu")
    assert check.spread == pytest.approx(0.03 * 0.32)
    assert check.status == status


def test_the_noise_of_a_share_is_that_of_steady_steps() -> None:
    """Three steps that warm up load data for most of their time: that does not hide what the steady ones do."""
    shares = (0.9, 0.7, 0.6, 0.19, 0.2, 0.21)
    rows = tuple(
        StepRow(number=i, start_s=float(i), split=split_of(0.4, share), steady=share < 0.5)
        for i, share in enumerate(shares)
    )
    report = report_of(steady(0.4), steps=rows)
    check = check_of(check_report(report, data_loading="15%"), "data-loading")
    assert check.spread == pytest.approx(0.01)
    assert check.status == FAILED


def test_a_difference_of_two_runs_has_the_noise_of_both() -> None:
    """Each varies by 12 ms, so their difference by 17: 30 ms more is within twice that, and 36 ms is not."""
    base = report_of(steady(0.4, 0.03))
    for step_s, status in ((0.430, INCONCLUSIVE), (0.436, FAILED)):
        run = report_of(steady(step_s, 0.012 / step_s))
        policy = Policy(budgets=parse_budgets({"step_time": "+5%"}))
        assert check_of(judge([run], policy, baseline=[base]), "step-time").status == status


def test_every_run_is_compared_with_the_first_and_not_only_the_second() -> None:
    mine = report_of([0.4])
    other = replace(mine, device=replace(mine.device, name="NVIDIA A100-SXM4-80GB"))
    for reports, baseline in (([mine, mine, other], []), ([mine, other], [mine]), ([mine], [mine, mine, other])):
        with pytest.raises(DoctorError, match="--allow-different device"):
            judge(reports, Policy(), baseline=baseline)


def test_what_makes_the_baseline_doubtful_is_told_with_the_verdict() -> None:
    run = report_of(steady(0.4), cautions=("the run's own",))
    base = report_of(steady(0.4), cautions=("the machine was busy",), problems=("the file was cut off",))
    said = judge([run], Policy(), baseline=[base]).cautions
    assert set(said) == {"the run's own", "the machine was busy", "the file was cut off"}


def test_a_rules_code_beats_its_family() -> None:
    report = report_of(steady(0.4), diagnoses=(finding(), finding("slow-sample", "IN002")))
    verdict = judge([report], Policy(levels={"IN": "off", "IN001": "error"}))
    assert [check.name for check in verdict.failures] == ["input-bound"]
    assert [check.name for check in verdict.checks] == ["input-bound"]


def test_a_fault_that_half_of_the_runs_show_is_not_in_most_of_them() -> None:
    seen = report_of(steady(0.4), diagnoses=(finding(),))
    clean = report_of(steady(0.4), diagnoses=(finding(status="passed", summary="", fix=None, saving=None),))
    policy = Policy(levels={"input-bound": "error"})
    assert judge([seen, clean], policy).ok
    assert judge([clean, seen], policy).ok
    assert not judge([seen, seen], policy).ok


def test_several_runs_are_stated_by_the_run_in_the_middle() -> None:
    """Each run by its throughput; a run that something else slowed down does not decide for the others."""
    runs = [report_of(times) for times in ([1.0, 1.0, 4.0], [2.0, 2.0, 2.3], [30.0, 30.0, 30.0])]
    assert [step_sample([run]).value for run in runs] == pytest.approx([2.0, 2.1, 30.0])
    assert step_sample(runs).value == pytest.approx(2.1)
