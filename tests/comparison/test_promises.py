"""A promise is only checked where there was one and where the measurement can tell: else the reason is said."""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.comparison.compare import compare
from mfu_doctor.comparison.prediction import HELD
from mfu_doctor.result.findings import Evidence, Overlap, Plan, PlanStep
from tests.runs import finding, report_of, steady

FIXED = finding(status="passed", summary="", fix=None, saving=None)


def test_noise_wider_than_the_promise_confirms_nothing() -> None:
    """A step that varies by 60 ms can be 412 or 330 ms by chance: "came true" would be luck."""
    before = report_of(steady(0.412, 0.15), diagnoses=(finding(),))
    after = report_of(steady(0.330, 0.15), diagnoses=(FIXED,))
    told = compare(before, after).prediction
    assert told.outcome is None
    assert told.predicted_s is None
    assert "the predicted saving of 81 ms is not larger than the noise" in str(told.reason)


def test_fixes_that_the_plan_did_not_price_together_have_no_common_price() -> None:
    """The plan goes a, b, c: what a and c give without b was never replayed."""
    names = ("input-bound", "host-bound", "fp32-matmul")
    codes = ("IN001", "HO001", "KE001")
    found = tuple(finding(name, code) for name, code in zip(names, codes, strict=True))
    steps = tuple(PlanStep(rule=name, step_s=0.4 - 0.03 * i, saving_s=0.03) for i, name in enumerate(names))
    before = report_of(
        steady(0.43, 0.001), diagnoses=found, plan=Plan(steps=steps, saving_low_s=0.08, saving_high_s=0.1)
    )
    after = report_of(steady(0.37, 0.001), diagnoses=(*found,))
    apart = compare(before, after, fixes=("input-bound", "fp32-matmul")).prediction
    assert apart.predicted_s is None
    assert "no prediction for input-bound and fp32-matmul together" in str(apart.reason)
    first_two = compare(before, replace(after), fixes=("host-bound", "input-bound")).prediction
    assert first_two.predicted_s is not None
    assert first_two.outcome == HELD


def test_a_fix_that_saves_too_little_after_another_adds_nothing_to_its_prediction() -> None:
    """With the loader mended a fused optimizer gained nothing more, and the loader's own prediction was not checked."""
    found = (finding(), finding("unfused-optimizer", "KE004"))
    plan = Plan(
        steps=(PlanStep(rule="input-bound", step_s=0.331, saving_s=0.081),),
        overlaps=(Overlap(rule="unfused-optimizer", covered_by="input-bound"),),
        saving_low_s=0.074,
        saving_high_s=0.088,
    )
    before = report_of(steady(0.412, 0.001), diagnoses=found, plan=plan)
    after = report_of(steady(0.331, 0.001), diagnoses=found)
    told = compare(before, after, fixes=("input-bound", "unfused-optimizer")).prediction
    assert told.predicted_s is not None
    assert told.outcome == HELD


def kernels(count: int) -> tuple[Evidence, ...]:
    return (
        Evidence(name="implementation", value="single-tensor"),
        Evidence(name="operations", value=count, unit="per step"),
    )


def test_a_fix_that_only_saves_too_little_now_was_not_made() -> None:
    """With workers the step varies more, and an optimizer as unfused as before is no longer listed: it is not checked."""
    unfused = finding("unfused-optimizer", "KE004", evidence=kernels(483))
    held = replace(unfused, status="withheld", reason="two runs like this one differ by 18.6 % anyway")
    before = report_of(steady(0.412, 0.001), diagnoses=(finding(), unfused))
    after = report_of(steady(0.331, 0.001), diagnoses=(FIXED, held))
    comparison = compare(before, after)
    assert comparison.fixed == ("input-bound",)
    assert comparison.prediction.fixes == ("input-bound",)
    assert comparison.prediction.outcome == HELD


def test_a_fix_that_left_little_of_its_problem_was_made() -> None:
    fused = finding("unfused-optimizer", "KE004", evidence=kernels(483))
    little = replace(fused, status="withheld", evidence=kernels(4))
    before = report_of(steady(0.412, 0.001), diagnoses=(fused,))
    after = report_of(steady(0.331, 0.001), diagnoses=(little,))
    assert compare(before, after).prediction.outcome == HELD


def test_a_shorter_recording_is_no_fix() -> None:
    """Numbers of the recording and of the machine are halved, and of the problem none."""
    counts = [(Evidence(name="identical steps", value=value, unit="count"),) for value in (10, 4)]
    before = report_of(steady(0.412, 0.001), diagnoses=(finding("ungraphed-steps", "KE004", evidence=counts[0]),))
    after = report_of(steady(0.331, 0.001), diagnoses=(finding("ungraphed-steps", "KE004", evidence=counts[1]),))
    assert compare(before, after).prediction.fixes == ()


def test_where_no_finding_is_gone_the_one_that_shrank_is_checked() -> None:
    waits = [(Evidence(name="waiting for data", value=value, unit="s"),) for value in (0.086, 0.007)]
    before = report_of(steady(0.412, 0.001), diagnoses=(finding(evidence=waits[0]), finding("host-bound", "HO001")))
    after = report_of(steady(0.331, 0.001), diagnoses=(finding(evidence=waits[1]), finding("host-bound", "HO001")))
    comparison = compare(before, after)
    assert comparison.fixed == ()
    assert comparison.prediction.fixes == ("input-bound",)
    assert comparison.prediction.outcome == HELD
