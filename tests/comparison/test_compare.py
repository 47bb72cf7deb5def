"""Compare says what changed and whether it is real, checks the promise, and refuses unlike runs by name."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.summary.tables import TOP
from mfu_doctor.comparison.compare import Change, Comparison, compare
from mfu_doctor.comparison.prediction import BETTER, HELD, SHORT
from mfu_doctor.errors import DoctorError
from mfu_doctor.render import names, render
from mfu_doctor.render.comparison import render_comparison, render_comparison_markdown
from mfu_doctor.result.findings import Plan, PlanStep, Saving
from mfu_doctor.result.report import Report
from mfu_doctor.result.step import KernelRow
from tests.runs import finding, report_of, steady

FIXED = finding(status="passed", summary="", fix=None, saving=None)


def before_after(after_step: float, *, saving: Saving | None = None) -> tuple[Report, Report]:
    """A run with a finding that saves 74 to 88 ms of 412 ms, and a run without it."""
    found = finding() if saving is None else finding(saving=saving)
    before = report_of(steady(0.412, 0.001), trace="before.json", diagnoses=(found,))
    after = report_of(steady(after_step, 0.001), trace="after.json", loading=0.02, diagnoses=(FIXED,))
    return before, after


def bucket(comparison: Comparison, name: str) -> Change:
    return next(row for row in comparison.buckets if row.name == name)


def test_a_kept_promise_is_confirmed_with_its_error() -> None:
    comparison = compare(*before_after(0.330))
    prediction = comparison.prediction
    assert comparison.fixed == ("input-bound",)
    assert prediction.outcome == HELD
    assert prediction.predicted_s == pytest.approx(0.331)
    assert prediction.error == pytest.approx(0.331 / 0.330 - 1)
    assert "came true" in render_comparison(comparison)


@pytest.mark.parametrize(("measured", "outcome"), [(0.400, SHORT), (0.300, BETTER), (0.3385, HELD), (0.3235, HELD)])
def test_a_promise_is_judged_with_its_range_and_the_noise(measured: float, outcome: str) -> None:
    assert compare(*before_after(measured)).prediction.outcome == outcome


def test_a_fix_named_by_the_user_is_checked_although_the_finding_remains() -> None:
    before, after = before_after(0.330)
    after = replace(after, diagnoses=(finding(),))
    assert compare(before, after).prediction.outcome is None
    assert compare(before, after, fixes=("input-bound",)).prediction.outcome == HELD
    with pytest.raises(DoctorError, match="did you mean input-bound"):
        compare(before, after, fixes=("input-bond",))


def test_two_fixes_have_a_price_only_together_in_the_plan() -> None:
    before, after = before_after(0.300)
    second = finding("host-bound", "HO001", saving=Saving(low=0.03, mid=0.04, high=0.048))
    before = replace(before, diagnoses=(*before.diagnoses, second))
    after = replace(after, diagnoses=(FIXED, replace(FIXED, rule="host-bound", code="HO001")))
    alone = compare(before, after).prediction
    assert alone.predicted_s is None  # savings are never summed
    assert "together" in str(alone.reason)
    steps = (
        PlanStep(rule="input-bound", step_s=0.331, saving_s=0.081),
        PlanStep(rule="host-bound", step_s=0.301, saving_s=0.030),
    )
    planned = replace(before, plan=Plan(steps=steps, saving_low_s=0.1, saving_high_s=0.13))
    prediction = compare(planned, after).prediction
    assert prediction.predicted_s == pytest.approx(0.301)
    assert prediction.outcome == HELD


def test_a_rule_that_was_not_judged_after_is_not_called_fixed() -> None:
    before, after = before_after(0.330)
    unseen = replace(FIXED, status="not measured", reason="no facts")
    assert compare(before, replace(after, diagnoses=(unseen,))).fixed == ()


def test_buckets_say_whether_they_moved_beyond_the_noise() -> None:
    comparison = compare(*before_after(0.330))
    assert bucket(comparison, "data_loading").real is True
    assert bucket(comparison, "data_loading").delta == pytest.approx(0.02 * 0.33 - 0.2 * 0.412)
    assert bucket(comparison, "idle: launch").before == pytest.approx(0.07 * 0.412)
    still = compare(report_of(steady(0.4, 0.02)), report_of(steady(0.404, 0.02)))
    assert bucket(still, "compute").real is False
    assert still.step.real is False


def test_kernels_settings_and_counts_that_changed_are_listed() -> None:
    before, after = before_after(0.330)
    kernels = (KernelRow(name="sgemm", kind="matmul", seconds=0.1, share=0.2, count=4),)
    newer = (KernelRow(name="hgemm", kind="matmul", seconds=0.03, share=0.1, count=4),)
    before = replace(before, kernels=kernels, run=replace(before.run, settings={"tf32": False, "same": 1}))
    after = replace(
        after,
        kernels=newer,
        run=replace(after.run, settings={"tf32": True, "same": 1}, versions={"torch": "2.12.0"}),
        structure=before.structure | {"syncs": 2.0},
        places={"syncs": ("train.py:57",)},
    )
    comparison = compare(before, after)
    assert [(row.name, row.before, row.after) for row in comparison.kernels] == [
        ("sgemm", 0.1, 0.0),
        ("hgemm", 0.0, 0.03),
    ]
    changed = {s.name: (s.before, s.after) for s in comparison.settings}
    assert changed == {"tf32": ("False", "True"), "torch": ("2.13.0", "2.12.0")}
    assert [(row.name, row.delta) for row in comparison.counts] == [("syncs", 2.0)]
    assert comparison.places == (("syncs", ("train.py:57",)),)
    assert "new syncs at train.py:57" in render_comparison(comparison)


def test_a_kernel_that_fell_out_of_a_list_is_not_shown_as_a_change_of_all_its_time() -> None:
    """It took at most what the last of the list takes: 1 ms here, so 1.2 ms may be 1.01 ms, but 9 ms fell by 8 ms or more."""
    before, after = before_after(0.330)
    rest = tuple(
        KernelRow(name=f"k{i}", kind="matmul", seconds=0.001 + 1e-4 * i, share=0.0, count=1) for i in range(TOP - 1)
    )
    gone = KernelRow(name="gone_kernel", kind="matmul", seconds=0.009, share=0.0, count=1)
    small = KernelRow(name="small", kind="matmul", seconds=0.00099, share=0.0, count=1)
    comparison = compare(replace(before, kernels=(*rest, gone)), replace(after, kernels=(*rest, small)))
    assert [(row.name, row.before, row.after, row.delta) for row in comparison.kernels] == [
        ("gone_kernel", 0.009, None, None)
    ]
    assert "gone_kernel 9.00 ms unlisted" in " ".join(render_comparison(comparison).split())


def test_the_prediction_does_not_repeat_itself() -> None:
    """A prediction without a range was once "120 ms (middle 120 ms)"."""
    exact = Saving(low=0.08, mid=0.08, high=0.08)
    text = " ".join(render_comparison(compare(*before_after(0.330, saving=exact))).split())
    assert "predicted step: 332 ms, measured step: 330 ms, error: +0.6 %, noise: " in text
    assert "middle" not in text


@pytest.mark.parametrize("key", ["device", "count", "model-flops"])
def test_unlike_runs_are_refused_by_key_until_allowed(key: str) -> None:
    before, after = before_after(0.330)
    other = {
        "device": replace(after, device=replace(after.device, name="A100")),
        "count": replace(after, run=replace(after.run, world_size=2)),
        "model-flops": replace(after, mfu=replace(after.mfu, model_flops=2.0)),
    }[key]
    with pytest.raises(DoctorError, match=f"--allow-different {key}"):
        compare(before, other)
    assert compare(before, other, allow_different=(key,)).allowed == (key,)


@pytest.mark.parametrize("form", names("comparison"))
def test_every_format_shows_step_promise_and_buckets(form: str) -> None:
    text = render(compare(*before_after(0.330)), form)
    assert "input-bound" in text
    assert "data loading" in text.replace("_", " ")
    if form == "json":
        assert msgspec.json.decode(text)["prediction"]["outcome"] == HELD
    if form == "terminal":
        assert max(len(line) for line in text.splitlines()) <= 80


def test_hostile_names_do_not_break_the_page() -> None:
    before, after = before_after(0.330)
    hostile = "k<script>|`*_\x1b[31m\n::error::x"
    kernels = (KernelRow(name=hostile, kind="matmul", seconds=0.1, share=0.2, count=4),)
    comparison = compare(replace(before, kernels=kernels), after)
    assert "\x1b" not in render_comparison(comparison)
    page = render_comparison_markdown(comparison)
    assert "<script>" not in page
    assert not any(line.startswith("::") for line in page.splitlines())


def test_an_unknown_format_is_an_error() -> None:
    with pytest.raises(DoctorError, match="use one of"):
        render(compare(*before_after(0.330)), "pdf")
