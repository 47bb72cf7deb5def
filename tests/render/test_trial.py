"""What was tried, in every output: the table, markdown, and the lines in a report, its page and a comparison."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from syrupy.assertion import SnapshotAssertion

from mfu_doctor.comparison.compare import compare
from mfu_doctor.render import render
from mfu_doctor.render.terminal.paint import Abilities
from mfu_doctor.render.words.text import EN_DASH
from mfu_doctor.render.words.trial import answer, beside, headline, in_report, measured, untried
from mfu_doctor.result.report import Report
from mfu_doctor.result.stored import from_json, to_json
from mfu_doctor.result.trial import (
    AS_UNCHANGED,
    BETTER,
    CLOSE,
    CRASHED,
    DRIFTS,
    IDENTICAL,
    NOT_TRIED,
    OPEN,
    OTHER_ORDER,
    REFUSED,
    SAME,
    Trial,
    Tried,
)
from tests.runs import finding, report_of, steady

WORKERS = Tried(
    fixes=("loader-workers=2",),
    rule="input-bound",
    words="2 workers load the batches",
    line="DataLoader(..., num_workers=2)",
    numerics="the order of random numbers may change",
    verdict=BETTER,
    predicted_low_s=0.055,
    predicted_s=0.057,
    predicted_high_s=0.062,
    saving_low_s=0.0551,
    saving_s=0.0581,
    saving_high_s=0.0612,
    noise_s=0.0019,
    step_s=0.118,
    runs=3,
    loss=OTHER_ORDER,
    loss_step=4,
    loss_change=0.12,
    start_s=1.4,
)
FUSED = replace(
    WORKERS,
    fixes=("fused-optimizer",),
    rule="unfused-optimizer",
    verdict=SAME,
    predicted_low_s=0.0012,
    predicted_s=0.0012,
    predicted_high_s=0.0012,
    saving_low_s=-0.001,
    saving_s=0.0009,
    saving_high_s=0.003,
    loss=IDENTICAL,
    start_s=0.1,
)
BF16 = replace(
    FUSED,
    fixes=("bf16-autocast",),
    rule=None,
    predicted_low_s=None,
    predicted_s=None,
    predicted_high_s=None,
    verdict=REFUSED,
    reason="it should not change what is learnt, and the loss is another one from step 3 on",
    loss=DRIFTS,
    loss_step=3,
)
COMPILED = Tried(fixes=("compiled-model",), rule="host-bound", verdict=CRASHED, reason="InductorError: no compiler")
TF32 = Tried(fixes=("tf32",), verdict=NOT_TRIED, reason="the program runs on a CPU")
BOTH = replace(
    WORKERS,
    fixes=("loader-workers=2", "a-fix-with-a-name-that-is-long=2"),
    rule=None,
    predicted_low_s=None,
    predicted_high_s=None,
    saving_s=0.0644,
)
TRIAL = Trial(
    program="examples/nanogpt.py --fault slow-loader",
    budget_s=600.0,
    spent_s=312.0,
    runs=21,
    steps=23,
    unchanged_s=0.176,
    noise=0.012,
    tried=(WORKERS, FUSED, BF16, COMPILED, TF32),
    together=BOTH,
    by_rules=("python-step",),
    patch="--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-l = DataLoader(d)\n+l = DataLoader(d, num_workers=2)\n",
    by_hand=('torch.set_float32_matmul_precision("high")',),
)


def tried_report() -> Report:
    return replace(report_of(steady(0.176, 0.001), diagnoses=(finding(rule="input-bound"),)), trial=TRIAL)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_the_screen(width: int, snapshot: SnapshotAssertion) -> None:
    text = render(TRIAL, "terminal", screen=Abilities(width=width))
    assert max(len(row) for row in text.splitlines()) <= width
    assert text == snapshot


def test_the_table_as_markdown(snapshot: SnapshotAssertion) -> None:
    assert render(TRIAL, "markdown") == snapshot


def test_a_trial_is_saved_with_its_report() -> None:
    assert from_json(to_json(tried_report()), Report).trial == TRIAL


@pytest.mark.parametrize("format_", ["terminal", "markdown", "html"])
def test_a_report_shows_what_was_tried(format_: str) -> None:
    text = " ".join(render(tried_report(), format_).split())
    assert "tried loader-workers=2: 58.1 ms (55 to 61) measured, 55-62 ms predicted" in text.replace(
        EN_DASH, "-"
    ).replace("\\", "")


@pytest.mark.parametrize("format_", ["terminal", "markdown", "html"])
def test_a_report_says_what_to_do_by_what_was_tried(format_: str) -> None:
    """Also of a set of fixes, and of those that answer no finding."""
    text = " ".join(render(tried_report(), format_).split()).replace("\\", "").replace("\u202f", " ")
    assert "Tried on the program" in text
    assert "a-fix-with-a-name-that-is-long=2: the step goes from 176" in text.replace("\u00a0", " ")
    assert "Tried on the program" not in render(replace(tried_report(), trial=None), format_)


def test_the_page_has_the_table_and_the_patch() -> None:
    text = render(tried_report(), "html").replace("\u00a0", " ").replace("\u202f", " ")
    body = text[: text.index('id="report"')]
    for tried in (WORKERS, FUSED, BF16, COMPILED, TF32):
        assert f'<th scope="row">{tried.name}</th>' in body
        assert f"<td>{tried.verdict}</td>" in body
    assert "InductorError: no compiler" in body
    assert "-l = DataLoader(d)\n+l = DataLoader(d, num_workers=2)" in body
    assert "set_float32_matmul_precision" in body
    assert "No fix from outside answers python-step." in body


def test_a_comparison_shows_what_was_tried_of_the_fixes_that_were_applied() -> None:
    after = report_of(
        steady(0.118, 0.001), diagnoses=(finding(rule="input-bound", status="passed", fix=None, saving=None),)
    )
    assert "before: tried loader-workers=2: 58.1 ms" in render(compare(tried_report(), after), "terminal")


@pytest.mark.parametrize(
    ("tried", "told"),
    [
        (FUSED, "tried fused-optimizer: 0.900 ms (-1.0 to 3.0) measured, 1.2 ms predicted: no difference"),
        (COMPILED, "tried compiled-model: crashed (InductorError: no compiler)"),
        (
            replace(COMPILED, runs=2),
            "tried compiled-model: nothing measured: crashed (InductorError: no compiler)",
        ),
        (
            replace(BF16, reason="the loss rises"),
            "tried bf16-autocast: 0.900 ms (-1.0 to 3.0) measured: refused (the loss rises)",
        ),
    ],
)
def test_what_did_not_help_says_so(tried: Tried, told: str) -> None:
    assert in_report(tried) == told


def test_a_range_that_says_nothing_is_not_shown() -> None:
    assert measured(replace(WORKERS, saving_low_s=-9e9)) == "58.1 ms (too noisy)"


def test_what_a_fix_may_change_is_told_only_where_it_did() -> None:
    assert beside(replace(WORKERS, loss=AS_UNCHANGED))[0].startswith(
        "the losses differ no more than between two unchanged runs; its"
    )
    assert "to be expected of it: the order of random numbers may change" in beside(WORKERS)[0]


def test_one_run_says_what_its_step_took() -> None:
    one = replace(WORKERS, verdict=OPEN, runs=1, saving_low_s=None, saving_s=None, saving_high_s=None, step_s=7.63)
    assert "its step took 7.63 s in one run" in beside(one)[0]


def test_the_ends_of_a_range_have_the_digits_of_the_larger_one() -> None:
    assert (
        measured(replace(WORKERS, step_s=2.0, saving_low_s=-5.9, saving_s=-1.36, saving_high_s=0.0068))
        == "-1.36 s (-5.9 to 0.007)"
    )
    assert (
        measured(replace(WORKERS, saving_low_s=0.00031, saving_s=0.0055, saving_high_s=0.011)) == "5.50 ms (0.3 to 11)"
    )
    assert measured(replace(WORKERS, saving_low_s=0.013, saving_s=0.191, saving_high_s=0.372)) == "191 ms (13 to 370)"


def test_differences_in_the_last_bits_are_not_counted_out() -> None:
    told = beside(replace(WORKERS, loss=CLOSE, loss_change=1e-16))[0]
    assert told.startswith("the losses differ by 0.0001 % at most")


def test_figures_that_are_too_wide_are_told_in_a_sentence() -> None:
    """They would run into each other."""
    wide = replace(WORKERS, step_s=2000.0, saving_low_s=-1512.0, saving_s=-1234.0, saving_high_s=-1021.0)
    assert len(measured(wide)) >= 24
    told = " ".join(render(replace(TRIAL, tried=(wide,)), "terminal").split())
    assert f"better; predicted 55-62 ms; saves per step {measured(wide)}; noise 1.9 ms" in told


def test_the_patch_keeps_its_spaces() -> None:
    patch = "--- a/t.py\n+++ b/t.py\n@@ -1 +1 @@\n-f(a)  # why\n+f(a, b)  # why\n"
    assert (
        patch in "\n".join(row.rstrip() for row in render(replace(TRIAL, patch=patch), "terminal").splitlines()) + "\n"
    )
    assert "+f(a, b)  # why" in render(replace(TRIAL, patch=patch + "+\x1b[31m\n"), "markdown")
    assert "\x1b" not in render(replace(TRIAL, patch=patch + "+\x1b[31m\n"), "terminal")


def test_the_answer_is_the_set_that_helps_else_the_best_alone_else_nothing() -> None:
    assert answer(TRIAL).startswith(
        "loader-workers=2 + a-fix-with-a-name-that-is-long=2: the step goes from 176 ms to 112 ms"
    )
    assert answer(replace(TRIAL, together=None)).startswith("loader-workers=2: the step goes from 176 ms to 118 ms")
    assert answer(replace(TRIAL, together=None, tried=(FUSED,))) == "No fix that was tried makes the step shorter."
    open_fix = replace(FUSED, verdict=OPEN)
    assert answer(replace(TRIAL, together=None, tried=(open_fix,))) == "No fix is known to make the step shorter yet."


def twice(tried: Tried) -> Tried:
    return replace(tried, fixes=("batch-size=2",), samples=2.0)


TWICE_TOLD = "as many samples take 118 ms instead of 176 ms (33 % less); a step has 2 times as many"


@pytest.mark.parametrize(
    "trial",
    [
        replace(TRIAL, together=None, tried=(twice(WORKERS),)),
        replace(TRIAL, together=replace(twice(BOTH), saving_s=0.0581)),
    ],
)
@pytest.mark.parametrize("format_", ["terminal", "markdown", "html"])
def test_of_a_larger_batch_as_many_samples_are_told(trial: Trial, format_: str) -> None:
    """Its step is longer, not shorter."""
    assert answer(trial) == f"batch-size=2: {TWICE_TOLD}."
    for shown in (trial, replace(tried_report(), trial=trial)):
        if isinstance(shown, Trial) and format_ == "html":
            continue  # a page is of a whole report
        text = " ".join(render(shown, format_).replace("\\", "").split())
        assert TWICE_TOLD in text
        assert "the step goes from" not in text


def test_a_report_says_what_a_saving_is_for() -> None:
    told = "tried batch-size=2: 58.1 ms (55 to 61) measured for as many samples, 55-62 ms predicted"
    assert in_report(twice(WORKERS)).replace(EN_DASH, "-") == told


def test_what_helps_alone_and_is_not_in_the_set_is_left_out() -> None:
    """It may do no good beside the others, or crash with them, or be another setting of one of them."""
    assert answer(replace(TRIAL, without=("fused-optimizer",))).endswith(" Left out: fused-optimizer.")


def test_what_cannot_be_tried_is_told_as_that() -> None:
    """It may be the machine that has to change, or the job."""
    assert untried(replace(TRIAL, by_rules=("thermal-throttle",))) == "No fix from outside answers thermal-throttle."


def test_who_interrupts_before_the_first_run_is_not_told_that_there_is_no_fault() -> None:
    begun = Trial(program="train.py", budget_s=600.0)
    assert "The recording shows no fault" in answer(begun)
    assert answer(replace(begun, ended="it was interrupted")) == "No fix has been measured."


def test_an_unchanged_run_that_is_left_out_is_told() -> None:
    trial = Trial(program="a.py", budget_s=60.0, spent_s=50.0, runs=29, steps=32, unchanged_s=0.103, noise=0.045)
    assert headline(trial).endswith("a run differs from the next by 4.5 %")
    told = headline(replace(trial, disturbed_s=(0.187,)))
    assert told.endswith("by 4.5 %; disturbed, and left out: a run of 187 ms a step")
