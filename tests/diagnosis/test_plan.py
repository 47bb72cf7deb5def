"""Prices and the plan: what breaks is shown, what is impossible is not promised, and the ends of a range are in order."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.replay.edits import Change, ScaleDevice, ScaleHost, SetDevice
from mfu_doctor.analysis.replay.replay import Replay
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.diagnosis.plan import make_plan
from mfu_doctor.diagnosis.pricing import Priced, Scale, causes, mfu_then_of, price_findings, rank
from mfu_doctor.diagnosis.rule_runner import Examined, examine
from mfu_doctor.diagnosis.statuses import diagnoses
from mfu_doctor.result.findings import CRASHED, FAILED, Overlap, Plan
from mfu_doctor.rules.contract import Confidence, Finding, Rule
from tests.rules.judging import run_of
from tests.timeline import Timeline

STEPS = 5


def drawn(kernel: int = 500, *, fetch: int = 300) -> Run:
    """Steps of a fetch of 300 us and four kernels that the host launches far ahead of the device."""
    t = Timeline()
    for _ in range(STEPS):
        with t.step():
            t.fetch(fetch)
            for _ in range(4):
                t.op("aten::mm", kernel=kernel)
    return Run(t.trace())


def rule_with(name: str, change: Change, code: str = "KE099") -> Rule:
    return Rule(name, code, name, (), lambda run: Finding(summary=f"{name} is slow", fix="pass", change=change), "")


def halved(run: Run, factor: float = 0.5) -> Change:
    return Change.exactly(ScaleDevice(run.activity.row.astype(np.int64), np.full(run.activity.count, factor)))


def without_fetches(run: Run) -> Change:
    return Change.exactly(ScaleHost(run.host.fetch))


def impossible(run: Run) -> Change:
    """One duration for four rows: no timeline can be edited so."""
    return Change.exactly(SetDevice(run.activity.row[:4].astype(np.int64), np.ones(1, np.int64)))


def planned(
    run: Run, rules: list[Rule], scale: Scale | None = None, *, replay: Replay | None = None
) -> tuple[list[Priced], Plan]:
    replay = replay or run.replay
    scale = scale or Scale(replay.measured_ns / 1e9, 1e9, None)
    found = [(rule, rule.judge(run)) for rule in rules]
    ranked = rank(price_findings(replay, [(r, f) for r, f in found if isinstance(f, Finding)], scale), scale.step_s)
    return ranked, make_plan(replay, ranked, scale)


def test_a_fix_that_cannot_be_replayed_is_one_crashed_rule_and_the_report_goes_on() -> None:
    """One broken price once ended the whole report."""
    run = drawn()
    report = diagnose_run(run, [rule_with("broken", impossible(run)), rule_with("sound", halved(run))]).report
    broken, sound = report.diagnosis("broken"), report.diagnosis("sound")
    assert broken is not None
    assert broken.status == CRASHED
    assert "IndexError" in (broken.reason or "")
    assert sound is not None
    assert sound.status == FAILED
    assert sound.saving is not None
    assert [step.rule for step in report.plan.steps] == ["sound"]


def test_no_step_shorter_than_its_products_at_peak_is_predicted_and_the_plan_says_so() -> None:
    """Fusing removes kernels, but no fix removes the model's own products."""
    run = drawn()
    whole = run.replay.measured_ns
    scale = Scale(whole / 1e9, 1e9, 0.2, products_s=0.8 * whole / 1e9)
    ranked, plan = planned(run, [rule_with("a", halved(run, 0.01)), rule_with("b", without_fetches(run))], scale)
    assert all(p.saving is not None and p.saving.high <= 0.2 * scale.step_s + 1e-12 for p in ranked)
    assert all(step.step_s >= scale.floor_s - 1e-12 for step in plan.steps)
    assert plan.saving_high_s <= 0.2 * scale.step_s + 1e-12
    assert plan.mfu_high == pytest.approx(0.2 / 0.8)
    assert plan.stop is not None
    assert plan.stop.startswith("no step shorter than")


def test_mfu_above_one_is_not_predicted_where_no_roofline_is_known() -> None:
    run = drawn()
    whole = run.replay.measured_ns
    _, plan = planned(run, [rule_with("a", halved(run, 0.01))], Scale(whole / 1e9, 1e9, 0.6))
    assert plan.mfu_high == pytest.approx(1.0)


def test_a_bound_that_the_measured_run_already_breaks_is_no_bound() -> None:
    assert Scale(1.0, 1e9, None, products_s=1.2).floor_s == 0.0
    assert Scale(1.0, 1e9, 1.3, products_s=0.4).floor_s == 0.4


def test_a_faster_number_format_is_not_bound_by_todays_products() -> None:
    """fp32 to bf16: products run below their fp32 roofline, and MFU is then against the faster format's peak."""
    run = drawn()
    whole = run.replay.measured_ns
    least_s = 0.9 * whole / 1e9
    scale = Scale(whole / 1e9, 1e9, 0.5, roofline_s=least_s, products_s=least_s, peak_flops=1e13)
    found = Finding(summary="fp32", fix="pass", change=halved(run, 0.25), raised_peak=8e13)
    rule = Rule("fp32-matmul", "KE098", "fp32", (), lambda run: found, "")
    ranked, plan = planned(run, [rule], scale)
    assert ranked[0].saving is not None
    assert ranked[0].saving.mid == pytest.approx(0.75 * whole / 1e9, rel=0.01)
    assert plan.steps[0].step_s == pytest.approx(0.25 * whole / 1e9, rel=0.01)
    assert plan.steps[0].mfu == pytest.approx(0.5 / 0.25 / 8, rel=0.01)
    assert plan.roofline_s == scale.roofline_s
    assert "below the" in str(plan.stop)


def test_an_mfu_below_todays_says_of_which_peak_it_is() -> None:
    """The step is a quarter, the peak eight times as high: MFU falls from 50 to 25 %, and the finding says why."""
    run = drawn()
    found = Finding(summary="fp32", fix="pass", detail="why", change=halved(run, 0.25), raised_peak=8e13)
    scale = Scale(run.replay.measured_ns / 1e9, 1e9, 0.5, peak_flops=1e13)
    ranked, _ = planned(run, [Rule("fp32-matmul", "KE098", "fp32", (), lambda run: found, "")], scale)
    (told,) = diagnoses([], ranked, run)
    assert ranked[0].saving is not None
    assert ranked[0].saving.mfu_low == pytest.approx(0.25, rel=0.01)
    assert told.detail == "why; MFU is then of a peak of 80 TFLOP/s"


def test_work_that_a_fix_removes_is_not_in_the_mfu_after_it() -> None:
    """A GAN's needless backward: 14 of 43 FLOP and 30 % of the step go, so MFU falls from 73 to 70 %, far below 100 %."""
    run = drawn()
    whole = run.replay.measured_ns / 1e9
    needless = Finding(summary="needless", fix="pass", detail="why", change=halved(run, 0.7), needless_flops=14.0)
    scale = Scale(whole, 1e9, 0.73, products_s=0.7 * whole, peak_flops=1e13, flops=43.0)
    ranked, plan = planned(run, [Rule("unused-gradients", "KE098", "needless", (), lambda run: needless, "")], scale)
    (told,) = diagnoses([], ranked, run)
    assert ranked[0].saving is not None
    assert ranked[0].saving.mid == pytest.approx(0.3 * whole, rel=0.01)
    assert ranked[0].saving.mfu_high == pytest.approx(0.73 * 29 / 43 / 0.7, rel=0.01)
    assert plan.mfu_high == pytest.approx(0.73 * 29 / 43 / 0.7, rel=0.01)
    assert told.detail == "why; MFU is then without the removed 33 % of the FLOPs"


def test_the_ends_of_the_plan_are_widened_as_each_price_is() -> None:
    """The plan once stated one number where the price of its only fix was a range."""
    run = drawn()
    recorded = run.replay.timeline
    off = Replay(replace(recorded, measured_ns=recorded.measured_ns * 1.05), run.activity.row, recorded)
    assert 0.03 < off.widening < 0.1
    ranked, plan = planned(run, [rule_with("a", halved(run))], replay=off)
    saving = ranked[0].saving
    assert saving is not None
    assert saving.low < saving.mid < saving.high
    assert (plan.saving_low_s, plan.saving_high_s) == pytest.approx((saving.low, saving.high))


def test_the_ends_of_the_plan_are_in_order_and_hold_its_own_steps() -> None:
    run = drawn()
    fast, slow = halved(run, 0.3), halved(run, 0.7)
    odd = Change(low=fast.low, mid=fast.mid, high=slow.high)  # a rule whose high end saves least
    _, plan = planned(run, [rule_with("odd", odd), rule_with("b", without_fetches(run))])
    told = sum(step.saving_s for step in plan.steps)
    assert 0 < plan.saving_low_s <= told + 1e-12
    assert told - 1e-12 <= plan.saving_high_s


def test_a_fix_that_pays_only_after_another_is_marked() -> None:
    """Kernels are free while the host is late: halving them pays once the host no longer waits for its data."""
    run = drawn(150, fetch=1000)
    where = Intervals(run.host.fetch.start, run.host.fetch.end)
    rules = [rule_with("loader", Change.exactly(ScaleHost(where))), rule_with("kernels", halved(run))]
    ranked, plan = planned(run, rules)
    assert [step.rule for step in plan.steps] == ["loader", "kernels"]
    kernels = next(p for p in ranked if p.rule.name == "kernels")
    assert [step.pays_after for step in plan.steps] == [None, None if kernels.worth else "loader"]


def test_examined_rules_keep_their_order() -> None:
    run = drawn()
    outcomes = examine(run, [rule_with("a", halved(run)), rule_with("b", halved(run))])
    assert [e.rule.name for e in outcomes] == ["a", "b"]
    assert all(isinstance(e, Examined) for e in outcomes)
    assert replace(outcomes[0], error="x").error == "x"


def test_a_symptom_of_a_symptom_is_laid_to_the_root() -> None:
    """Pointwise chains because nothing is compiled, that because the host is slow: all stand under the host."""
    run = drawn()

    def symptom(name: str, code: str, *of: str) -> Rule:
        found = Finding(summary=name, fix="pass", change=halved(run), symptom_of=of)
        return Rule(name, code, name, (), lambda run: found, "")

    rules = [symptom("chains", "KE097", "eager"), symptom("eager", "HO097", "host"), symptom("host", "HO096")]
    ranked, _ = planned(run, rules)
    assert causes(ranked) == {"chains": "host", "eager": "host"}


def test_the_best_estimate_ranks_list_and_plan_alike() -> None:
    """A fix that surely halves half of the kernels comes after one that probably leaves a tenth of all."""
    run = drawn()
    sure = halved(run, 0.7)
    likely = Change(low=halved(run, 0.9).low, mid=halved(run, 0.1).mid, high=halved(run, 0.1).high)
    ranked, plan = planned(run, [rule_with("sure", sure), rule_with("likely", likely)])
    assert [p.rule.name for p in ranked] == ["likely", "sure"]
    assert plan.steps[0].rule == "likely"
    assert ranked[0].saving is not None
    assert plan.steps[0].saving_s == pytest.approx(ranked[0].saving.mid)


def test_a_sure_fix_comes_before_one_that_only_may_save_a_little_more() -> None:
    """A guess of 67 ms that may also be 6 once stood above a measured 57."""
    run = drawn()
    sure = halved(run, 0.43)
    perhaps = Change(low=halved(run, 0.94).low, mid=halved(run, 0.33).mid, high=halved(run, 0.33).high)
    ranked, plan = planned(run, [rule_with("perhaps", perhaps), rule_with("sure", sure)])
    assert [p.rule.name for p in ranked] == ["sure", "perhaps"]
    assert plan.steps[0].rule == "sure"
    saving = ranked[1].saving
    assert saving is not None
    assert saving.about == "up to"
    assert saving.mid > (ranked[0].saving or saving).mid > saving.expected


def test_of_savings_that_are_alike_the_surest_comes_first() -> None:
    """63 ms of a model stood above a measured 57, and predictions are off by more than the difference."""
    run = drawn()

    def rule(name: str, left: float, confidence: Confidence) -> Rule:
        found = Finding(summary=name, fix="pass", change=halved(run, left), confidence=confidence)
        return Rule(name, "KE097", name, (), lambda run: found, "")

    modelled, measured = rule("modelled", 0.50, "modelled"), rule("measured", 0.54, "measured")
    assert [p.rule.name for p in planned(run, [modelled, measured])[0]] == ["measured", "modelled"]
    less = rule("measured", 0.65, "measured")
    assert [p.rule.name for p in planned(run, [less, modelled])[0]] == ["modelled", "measured"]


def test_a_choice_counts_with_the_least_that_it_saves() -> None:
    """bf16 on a CPU, which changes results, stood above the fault that a program had."""
    run = drawn()
    wide = Change(low=halved(run, 0.9).low, mid=halved(run, 0.4).mid, high=halved(run, 0.3).high)
    choice = Finding(summary="choice", fix="pass", change=wide, risk="rounding", trades=True)
    rules = [Rule("choice", "KE097", "choice", (), lambda run: choice, ""), rule_with("fault", halved(run, 0.7))]
    assert [p.rule.name for p in planned(run, rules)[0]] == ["fault", "choice"]
    fault = replace(choice, trades=False)
    rules[0] = Rule("choice", "KE097", "choice", (), lambda run: fault, "")
    assert [p.rule.name for p in planned(run, rules)[0]] == ["choice", "fault"]


def test_a_question_is_no_step_of_the_plan() -> None:
    """ "All together: 19.0 ms to about 12 ms: slow-link 6.4 ms" promised what the sentence above called not known yet."""
    run = drawn()
    asks = Finding(summary="slow", fix="mfu-doctor report DIR  # the traces of all ranks", change=halved(run))
    question = Rule("question", "CO099", "question", (), lambda run: asks, "")
    ranked, plan = planned(run, [question, rule_with("loader", halved(run, 0.8))])
    assert [p.rule.name for p in ranked] == ["question", "loader"]
    assert [step.rule for step in plan.steps] == ["loader"]
    assert plan.overlaps == ()
    assert plan.notes == ("question is not added: find out first what gets its time back",)
    assert planned(run, [question])[1].notes == plan.notes


def test_a_listed_fix_that_saves_nothing_more_says_which_one_has_its_time() -> None:
    """It once had a row, and "all together" did not tell why it was not in it."""
    run = drawn(150, fetch=1000)
    half_of_it = Change.exactly(ScaleHost(Intervals(run.host.fetch.start, run.host.fetch.end), 0.5))
    ranked, plan = planned(run, [rule_with("loader", without_fetches(run)), rule_with("batches", half_of_it)])
    listed = [p.rule.name for p in ranked if p.worth]
    assert listed == ["loader", "batches"]
    assert [step.rule for step in plan.steps] == ["loader"]
    assert plan.overlaps == (Overlap(rule="batches", covered_by="loader"),)


def test_the_plan_says_of_a_fix_what_its_row_says() -> None:
    """A row of 9.9 ms, which is all that the fault takes, stood above a plan in which the same fix saved 11."""
    run = drawn()
    found = Finding(summary="a", fix="pass", change=halved(run, 0.3), at_most=0.2)
    rules = [Rule("a", "KE098", "a", (), lambda run: found, ""), rule_with("b", halved(run, 0.8))]
    ranked, plan = planned(run, rules)
    alone = {p.rule.name: p.saving.mid for p in ranked if p.saving is not None}
    assert alone["a"] == pytest.approx(0.2 * run.replay.measured_ns / 1e9)
    assert plan.steps[0].saving_s == pytest.approx(alone[plan.steps[0].rule])
    assert sum(step.saving_s for step in plan.steps) <= plan.saving_high_s + 1e-12


def test_the_plan_is_in_the_order_of_the_list() -> None:
    run = drawn()
    ranked, plan = planned(run, [rule_with("b", without_fetches(run)), rule_with("a", halved(run, 0.6))])
    listed = [p.rule.name for p in ranked if p.worth]
    assert [step.rule for step in plan.steps][: len(listed)] == [n for n in listed if n in {s.rule for s in plan.steps}]


def test_a_fix_whose_low_end_is_nothing_is_no_step_of_the_plan() -> None:
    run = drawn()
    perhaps = Change(low=(), mid=halved(run, 0.1).mid, high=halved(run, 0.1).high)
    _, plan = planned(run, [rule_with("sure", halved(run, 0.7)), rule_with("perhaps", perhaps)])
    assert [step.rule for step in plan.steps] == ["sure"]


def test_a_plan_below_a_bound_that_is_printed_says_why_also_at_the_floor() -> None:
    run = drawn()
    whole = run.replay.measured_ns / 1e9
    scale = Scale(whole, 1e9, 0.2, roofline_s=0.9 * whole, products_s=0.5 * whole)
    _, plan = planned(run, [rule_with("a", halved(run, 0.01))], scale)
    assert plan.at_floor
    assert plan.stop is not None
    assert "no step shorter than" in plan.stop
    assert "below the lower bound" in plan.stop


def test_the_lower_bound_is_compared_with_the_step_that_is_stated() -> None:
    """A step of 46.6 ms was "1x the lower bound of 22.3 ms": the high end of the saving was divided."""
    run = drawn()
    whole = run.replay.measured_ns / 1e9
    ends = (halved(run, 0.9).low, halved(run, 0.8).low, halved(run, 0.2).low)
    _, plan = planned(run, [rule_with("a", Change(*ends))], Scale(whole, 1e9, None, roofline_s=whole / 4))
    assert plan.steps[0].step_s == pytest.approx(0.8 * whole, rel=0.05)
    assert "the step is 3.2x the lower bound" in str(plan.stop)
    assert "at best it is below that" in str(plan.stop)


def test_mfu_after_another_peak_and_without_removed_work_says_both() -> None:
    """Five times as fast read as a drop of MFU: one clause of two was told, and none where MFU did not fall."""
    now = Scale(1.0, 1e9, 0.5, peak_flops=1e13, flops=10.0)
    found = Finding(summary="both", fix="pass", raised_peak=2e13, needless_flops=5.0)
    assert mfu_then_of(now, now.after(found)) == "of a peak of 20 TFLOP/s, without the removed 50 % of the FLOPs"
    assert mfu_then_of(now, now) is None


def test_a_plan_whose_mfu_is_below_todays_says_why() -> None:
    run = drawn()
    found = Finding(summary="fp32", fix="pass", change=halved(run, 0.25), raised_peak=8e13)
    scale = Scale(run.replay.measured_ns / 1e9, 1e9, 0.5, peak_flops=1e13)
    _, plan = planned(run, [Rule("fp32-matmul", "KE098", "fp32", (), lambda run: found, "")], scale)
    assert plan.mfu_low is not None
    assert plan.mfu_low < 0.5
    assert plan.lower_mfu == "of a peak of 80 TFLOP/s"


def test_what_saves_mostly_the_wait_of_another_finding_comes_after_it() -> None:
    """A quicker CPU was promised 63 ms, most of them a wait for data, and stood above the loader's 48."""
    run = drawn()
    cpu = Finding(summary="cpu", fix="pass", change=halved(run, 0.6), mostly_of="input-bound")
    data = Finding(summary="data", fix="pass", change=halved(run, 0.75))
    rules = [
        Rule("host-bound", "HO098", "cpu", (), lambda run: cpu, ""),
        Rule("input-bound", "IN098", "data", (), lambda run: data, ""),
    ]
    ranked, _ = planned(run, rules, Scale(run.replay.measured_ns / 1e9, 1e9, None))
    assert [priced.rule.name for priced in ranked] == ["input-bound", "host-bound"]


def test_what_one_step_shows_is_known_a_level_less() -> None:
    """A trace of one step said "sure: high" as one of twenty did."""
    drawn_once = Timeline()
    with drawn_once.step():
        drawn_once.op("aten::mm", kernel=1_000)
    run = run_of(drawn_once)
    assert int(run.steps.steady.sum()) == 1
    levels: dict[Confidence, Confidence] = {"measured": "modelled", "modelled": "hint", "hint": "hint"}
    for confidence, expected in levels.items():
        finding = Finding(summary="a", fix="pass", change=halved(run, 0.5), confidence=confidence)
        scale = Scale(run.replay.measured_ns / 1e9, 1e9, None)
        rule = Rule("host-bound", "HO098", "a", (), lambda run: finding, "")  # noqa: B023 - called in this round
        (told,) = diagnoses([], planned(run, [rule], scale)[0], run)
        assert told.confidence == expected
