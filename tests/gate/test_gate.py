"""The gate fails on what is beyond budget and noise, says when it cannot tell, and never passes what it cannot judge."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence

import msgspec
import pytest
from msgspec.structs import replace

from mfu_doctor.comparison.measures import MEASURES, parse_budgets
from mfu_doctor.comparison.samples import differing_keys, pool
from mfu_doctor.devices.peaks import GIVEN
from mfu_doctor.errors import DoctorError
from mfu_doctor.gate.judge import Policy, check_report, judge
from mfu_doctor.render import render
from mfu_doctor.result.report import Report
from mfu_doctor.result.run import Mfu, RunInfo
from mfu_doctor.result.step import StepTime
from mfu_doctor.result.verdict import FAILED, INCONCLUSIVE, NOT_MEASURED, PASSED, WARNING, Check, Verdict
from tests.runs import finding, report_of, split_of, steady


def gate(reports: Sequence[Report], baseline: Sequence[Report] | None = None, **budgets: str | float) -> Verdict:
    return judge(reports, Policy(budgets=parse_budgets(budgets)), baseline=baseline or [])


def named(verdict: Verdict, name: str) -> Check:
    return next(check for check in verdict.checks if check.name == name)


def test_a_run_within_every_budget_passes() -> None:
    verdict = check_report(
        report_of(steady(0.412)), mfu="30%", step_time="450ms", data_loading="30%", idle="20%", syncs=0
    )
    assert verdict.ok
    assert verdict.exit_code == 0
    assert {check.status for check in verdict.checks} == {PASSED}


@pytest.mark.parametrize(
    ("budget", "value"),
    [
        ("mfu", "40%"),
        ("step_time", "300ms"),
        ("data_loading", "5%"),
        ("communication", "5%"),
        ("idle", "5%"),
        ("launches", 100),
        ("loader_workers", 8),
    ],
)
def test_each_budget_fails_on_its_own_side(budget: str, value: str | int) -> None:
    verdict = judge([report_of(steady(0.412))], Policy(budgets=parse_budgets({budget: value})))
    assert verdict.exit_code == 1
    assert [check.name for check in verdict.failures] == [budget.replace("_", "-")]


def test_a_trace_without_steps_is_not_one_step() -> None:
    """ "1 step recorded with the profiler" was said where the report says "no steps marked"."""
    report = report_of(steady(0.412))
    whole = replace(report, run=replace(report.run, steps_source="whole trace"))
    told, of_steps = (render(check_report(one, idle="20%"), "terminal") for one in (whole, report))
    assert "no steps marked" in told
    assert "recorded with the profiler" not in told
    assert "no steps marked" not in of_steps


def test_the_failure_text_names_number_budget_and_place() -> None:
    report = report_of(steady(0.412), structure={"syncs": 2.0}, places={"syncs": ("train.py:57",)})
    text = str(report.check(step_time="300ms", syncs=0))
    assert "failed: step-time, syncs" in text
    assert "412 ms" in text
    assert "at most 300 ms" in text
    assert "train.py:57" in text


def test_report_check_takes_a_baseline() -> None:
    base, slow = report_of(steady(0.4)), report_of(steady(0.5))
    assert not slow.check(baseline=base, step_time="+5%").ok
    assert base.check(baseline=base, step_time="+5%").ok


def test_a_regression_fails_only_beyond_the_budget_and_the_noise() -> None:
    quiet = gate([report_of(steady(0.44, 0.003))], [report_of(steady(0.4, 0.003))], step_time="+5%")
    assert named(quiet, "step-time").status == FAILED
    assert named(quiet, "step-time").change == pytest.approx(0.1)
    noisy = gate([report_of(steady(0.44, 0.06))], [report_of(steady(0.4, 0.06))], step_time="+5%")
    assert named(noisy, "step-time").status == INCONCLUSIVE
    assert "repeat with more runs" in named(noisy, "step-time").summary
    inside = gate([report_of(steady(0.412, 0.003))], [report_of(steady(0.4, 0.003))], step_time="+5%")
    assert named(inside, "step-time").status == PASSED


def test_inconclusive_warns_and_fails_when_strict() -> None:
    runs, base = [report_of(steady(0.44, 0.06))], [report_of(steady(0.4, 0.06))]
    assert judge(runs, Policy(), baseline=base).exit_code == 0
    assert judge(runs, Policy(strict=True), baseline=base).exit_code == 1


def test_a_pass_that_could_not_have_seen_a_regression_says_so() -> None:
    verdict = gate([report_of(steady(0.4, 0.06))], [report_of(steady(0.4, 0.06))], step_time="+5%")
    assert named(verdict, "step-time").status == PASSED
    assert "larger than the budget" in str(named(verdict, "step-time").note)


def test_more_runs_have_one_step_time_and_spread() -> None:
    runs = [report_of(steady(t)) for t in (0.40, 0.42, 0.44)]
    check = named(gate(runs, step_time="1s"), "step-time")
    assert check.value == pytest.approx(0.42)
    assert check.spread == pytest.approx(0.02, rel=0.2)  # the runs differ more than their steps do
    assert check.title == "step time, mean of 15"


def test_the_spread_is_the_median_absolute_deviation() -> None:
    values = [1.0, 1.1, 1.3, 1.6, 9.0]
    sample = pool(values)
    assert sample.value == 1.3
    assert sample.spread == pytest.approx(statistics.median(abs(v - 1.3) for v in values))
    assert pool([1.0, 2.0]).spread is None  # two steps have no spread worth the name


def test_few_steps_are_inconclusive_against_a_baseline_and_bare_against_an_absolute_budget() -> None:
    two, base = report_of([0.5, 0.5]), report_of(steady(0.4))
    assert named(gate([two], [base], step_time="+5%"), "step-time").status == INCONCLUSIVE
    assert named(gate([two], step_time="450ms"), "step-time").status == FAILED


def test_identical_runs_under_noise_do_not_fail() -> None:
    """Two hundred A/A comparisons of three noisy runs each: none may fail."""
    dice = random.Random(5)
    runs = [report_of([0.1 * (1 + dice.gauss(0, 0.03)) for _ in range(5)]) for _ in range(1200)]
    verdicts = [gate(runs[i : i + 3], runs[i + 3 : i + 6], step_time="+5%") for i in range(0, 1200, 6)]
    assert sum(not verdict.ok for verdict in verdicts) == 0


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("device", report_of([0.4], device=replace(report_of([0.4]).device, name="NVIDIA A100-SXM4-80GB"))),
        ("dtype", report_of([0.4], device=replace(report_of([0.4]).device, dtype="float32"))),
        ("count", report_of([0.4], run=replace(report_of([0.4]).run, world_size=8))),
        ("torch", report_of([0.4], run=replace(report_of([0.4]).run, versions={"torch": "2.12.1"}))),
        ("model-flops", report_of([0.4], mfu=replace(report_of([0.4]).mfu, model_flops=2.56e14))),
        ("timing", report_of([0.4], step_time_s=StepTime(median=0.4, source="trace"))),
    ],
)
def test_unlike_runs_are_refused_by_key_until_allowed(key: str, other: Report) -> None:
    mine = report_of([0.4])
    with pytest.raises(DoctorError, match=f"--allow-different {key}") as caught:
        judge([mine], Policy(), baseline=[other])
    assert caught.value.exit_code == 2
    assert judge([mine], Policy(allow_different=(key,)), baseline=[other]).ok
    with pytest.raises(DoctorError, match=key):  # runs that are judged together must be alike too
        judge([mine, other], Policy())


def test_a_patch_release_and_rounded_flops_are_alike() -> None:
    mine = report_of([0.4])
    other = replace(
        mine, run=replace(mine.run, versions={"torch": "2.13.1"}), mfu=replace(mine.mfu, model_flops=1.28e14 * 1.0005)
    )
    assert differing_keys(mine, other) == {}


def test_a_peak_that_the_user_gave_has_no_dtype_that_could_differ() -> None:
    mine = report_of([0.4])
    given = replace(mine, device=replace(mine.device, dtype=None, peak_source=GIVEN))
    assert differing_keys(mine, given) == {}
    unknown = replace(mine, device=replace(mine.device, dtype=None))
    assert "dtype" in differing_keys(mine, unknown)


def test_an_unknown_key_to_allow_is_an_error() -> None:
    with pytest.raises(DoctorError, match="did you mean device"):
        judge([report_of([0.4])], Policy(allow_different=("devise",)))


EMPTY = Report(run=RunInfo(trace="empty.json"))
NO_STEP = report_of([0.4], step_time_s=None)
NO_TIME = report_of([0.4], step_time_s=StepTime(median=0.0))
NO_GPU = report_of([0.4], diagnoses=(finding("missing-gpu-events", "TR001", caution=True, summary="no kernels"),))


@pytest.mark.parametrize(
    "report", [EMPTY, NO_STEP, NO_TIME, NO_GPU], ids=["empty", "no step", "no time", "no gpu events"]
)
def test_nothing_to_judge_is_never_a_pass(report: Report) -> None:
    for reports, baseline in (([report], []), ([report_of([0.4]), report], []), ([report_of([0.4])], [report])):
        with pytest.raises(DoctorError) as caught:
            judge(reports, Policy(), baseline=baseline)
        assert caught.value.exit_code == 2


def test_no_report_at_all_is_an_error() -> None:
    with pytest.raises(DoctorError, match="no run to check"):
        judge([], Policy())


def test_a_budget_on_something_unknown_is_an_error_with_the_reason() -> None:
    blind = report_of(steady(0.4), mfu=Mfu(reason='no peak for "NVIDIA GB10"; pass --peak-flops'), structure={})
    with pytest.raises(DoctorError, match="GB10"):
        check_report(blind, mfu="30%")
    with pytest.raises(DoctorError, match="has no value for the syncs"):
        check_report(blind, syncs=0)
    with pytest.raises(DoctorError, match="pass a baseline"):
        check_report(blind, step_time="+5%")
    with pytest.raises(DoctorError, match="no time breakdown"):
        check_report(replace(blind, breakdown=split_of(0.0)), idle="5%")


def test_a_partly_counted_mfu_may_be_above_the_budget() -> None:
    partly = report_of(steady(0.4), mfu=Mfu(value=0.25, upper=0.35, model_flops=1e14))
    assert named(check_report(partly, mfu="30%"), "mfu").status == INCONCLUSIVE
    assert named(check_report(partly, mfu="40%"), "mfu").status == FAILED


def test_a_new_sync_against_the_baseline_fails_with_its_line() -> None:
    base = report_of(steady(0.4), structure={"syncs": 1.0}, places={"syncs": ("train.py:30",)})
    run = report_of(steady(0.4), structure={"syncs": 2.0}, places={"syncs": ("train.py:30", "train.py:57")})
    policy = Policy(budgets=parse_budgets({"syncs": "+0"}))
    verdict = judge([run], policy, baseline=[base])
    assert [check.name for check in verdict.failures] == ["syncs"]
    assert named(verdict, "syncs").places == ("train.py:57",)
    assert judge([base], policy, baseline=[run]).ok


def test_a_baseline_brings_a_step_time_budget_and_nothing_that_nobody_asked_for() -> None:
    """A check of the syncs once appeared in every comparison with a baseline."""
    base, run = (report_of(steady(0.4), structure={"syncs": n}) for n in (1.0, 2.0))
    assert [check.name for check in judge([run], Policy(), baseline=[base]).checks] == ["step-time"]


def test_rule_levels_decide_what_a_finding_does() -> None:
    report = report_of(steady(0.4), diagnoses=(finding(), finding("host-bound", "HO001", saving=None)))
    assert {c.status for c in judge([report], Policy()).checks} == {WARNING}
    verdict = judge([report], Policy(levels={"IN": "error", "host-bound": "off"}))
    assert [check.name for check in verdict.checks] == ["input-bound"]
    assert verdict.exit_code == 1
    assert judge([report], Policy(levels={"IN": "error", "input-bound": "warn"})).ok  # the name beats the family


def test_a_demanded_rule_that_could_not_judge_is_not_a_pass() -> None:
    blind = finding(status="not measured", reason="record_shapes was off", fix=None, saving=None)
    crashed = finding("gc-pause", "HO004", status="crashed", reason="KeyError: x")
    verdict = judge([report_of(steady(0.4), diagnoses=(blind, crashed))], Policy(levels={"IN": "error", "HO": "error"}))
    assert {c.status for c in verdict.checks} == {INCONCLUSIVE}
    assert judge([report_of(steady(0.4), diagnoses=(blind,))], Policy()).checks[0].status == NOT_MEASURED


def test_a_symptom_is_listed_under_its_cause_unless_demanded() -> None:
    cause = finding("host-bound", "HO001", explains=("device-sync",))
    symptom = finding("device-sync", "HO002", explained_by="host-bound")
    report = report_of(steady(0.4), diagnoses=(cause, symptom))
    assert [c.name for c in judge([report], Policy()).checks] == ["host-bound"]
    assert "same cause: device-sync" in judge([report], Policy()).checks[0].summary
    assert [c.name for c in judge([report], Policy(levels={"device-sync": "error"})).failures] == ["device-sync"]


def test_over_several_runs_a_finding_needs_most_of_them() -> None:
    seen = report_of(steady(0.4), diagnoses=(finding(),))
    clean = report_of(steady(0.4), diagnoses=(finding(status="passed", summary="", fix=None, saving=None),))
    policy = Policy(levels={"input-bound": "error"})
    assert judge([seen, clean, clean], policy).ok
    verdict = judge([seen, clean, seen], policy)
    assert not verdict.ok
    assert "(2 of 3 runs)" in verdict.failures[0].summary


def test_findings_come_after_budgets_in_the_order_of_the_report() -> None:
    """A report puts a sure saving before a larger guess; the check once had an order of its own."""
    small = finding("fp32-matmul", "KE001", saving=replace(finding().saving, mid=0.01))  # type: ignore[type-var]
    report = report_of(steady(0.4), diagnoses=(small, finding()))
    verdict = judge(
        [report], Policy(budgets=parse_budgets({"step_time": "300ms"}), levels={"KE": "error", "IN": "error"})
    )
    assert [check.name for check in verdict.checks] == ["step-time", "fp32-matmul", "input-bound"]


def test_seconds_that_say_too_much_are_not_told() -> None:
    """Profiled and timed steps are far apart: the report states shares, so the check states none."""
    report = report_of(steady(0.4), diagnoses=(finding(),), savings_are_shares=True)
    assert all(check.saving is None for check in judge([report], Policy()).checks)
    assert any(check.saving for check in judge([report_of(steady(0.4), diagnoses=(finding(),))], Policy()).checks)


def test_the_json_holds_every_check() -> None:
    verdict = check_report(report_of(steady(0.412)), mfu="40%", syncs=0)
    data = msgspec.json.decode(verdict.to_json())
    assert data["ok"] is False
    assert data["exit_code"] == 1
    assert [c["name"] for c in data["checks"]] == ["mfu", "syncs"]
    assert data["judged"]["site"] == "train.py:41"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("step_tiem", "450ms", "did you mean step-time"),
        ("mfu", "30", "percentage"),
        ("mfu", 30, "3000 %"),
        ("step_time", "5%", r"\+5%"),
        ("step_time", "-5%", r"\+5%"),
        ("step_time", "fast", "450ms"),
        ("step_time", 0, "450ms"),
        ("idle", "nan%", "percentage"),
        ("syncs", -1, "count"),
        ("syncs", True, "count"),
        ("launches", "many", "count"),
    ],
)
def test_a_budget_that_is_none_is_refused_with_an_example(name: str, value: str | float, message: str) -> None:
    with pytest.raises(DoctorError, match=message):
        parse_budgets({name: value})


def test_budgets_are_parsed_into_the_measures_unit() -> None:
    given = {"mfu": "30%", "step-time": "+5%", "data_loading": 0.25, "syncs": "+1", "launches": 9500}
    limits = {budget.measure.name: (budget.limit, budget.relative) for budget in parse_budgets(given)}
    assert limits == {
        "step_time": (0.05, True),
        "mfu": (0.3, False),
        "data_loading": (0.25, False),
        "syncs": (1.0, True),
        "launches": (9500.0, False),
    }


def test_measures_have_unique_names() -> None:
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)


def test_metrics_are_plain_numbers_and_leave_out_what_is_unknown() -> None:
    known = report_of(steady(0.4), diagnoses=(finding(),)).metrics()
    assert known["mfu_doctor/step_time_s"] == pytest.approx(0.4)
    assert known["mfu_doctor/share/data_loading"] == pytest.approx(0.2)
    assert known["mfu_doctor/saving_s/input-bound"] == 0.081
    assert all(type(value) is float for value in known.values())
    assert "mfu_doctor/mfu" not in report_of(steady(0.4), mfu=Mfu(reason="no peak")).metrics()
