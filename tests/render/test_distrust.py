"""What a reader who distrusts the screens found: a count is that of its list, a sum adds up, no two lines are at odds."""

from __future__ import annotations

import re

from msgspec.structs import replace

from mfu_doctor.api.report import Report
from mfu_doctor.comparison.compare import compare
from mfu_doctor.diagnosis.concluded import concluded
from mfu_doctor.facts.whole_run import BEFORE, Elsewhere, WholeRun
from mfu_doctor.render import render
from mfu_doctor.render.comparison import render_comparison
from mfu_doctor.render.terminal.fixes import fixes
from mfu_doctor.render.terminal.panels import Look, whole
from mfu_doctor.render.terminal.screen import plain
from mfu_doctor.render.words import code_lines, labels
from mfu_doctor.result.caveats import FIGURES, Caveat
from mfu_doctor.result.findings import FAILED, NOT_MEASURED, WITHHELD, Diagnosis, Saving
from mfu_doctor.result.step import CodeLine
from tests.goldens import healthy, loader_bound
from tests.runs import finding, report_of, steady

ASK = "mfu-doctor report DIR  # the traces of all ranks: which one is late, and why"


def everywhere(report: Report) -> dict[str, str]:
    forms: tuple[tuple[str, dict[str, bool]], ...] = (
        ("terminal", {}),
        ("terminal", {"verbose": True}),
        ("markdown", {}),
        ("html", {}),
    )
    return {f"{form} {options}": " ".join(render(report, form, **options).split()) for form, options in forms}


def with_withheld(saving: Saving) -> Report:
    report = healthy()
    held = Diagnosis(rule="fp32-matmul", code="KE001", status=WITHHELD, reason="its number", saving=saving)
    return concluded(replace(report, diagnoses=(held, *report.passed), verdict=None))


def test_what_may_save_a_quarter_of_the_step_is_not_said_to_be_too_small() -> None:
    """ "Saves too little here: the predicted saving is only 0-58 ms" was said of a step of 234 ms."""
    unsure, small = (with_withheld(Saving(low=0.0, mid=0.0, high=high)) for high in (0.08, 0.001))
    for told in everywhere(unsure).values():
        assert "no known fix saves 1 % of the step for sure" in told
    for told in everywhere(small).values():
        assert "no known fix saves 1 % of the step." in told
    for report, count, title in (
        (unsure, "1 small or unsure", "mall or unsure"),
        (small, "1 too small", "oo small"),
    ):
        assert count in render(report, "terminal")
        for form, options in (("terminal", {"verbose": True}), ("markdown", {}), ("html", {})):
            assert re.search(rf"{title}\W", render(report, form, **options)), form
    assert "unsure" not in render(small, "html")


def test_the_page_counts_the_rules_that_it_lists() -> None:
    """It said 23 above a list of 27 rules: those about the recording were listed, and not counted."""
    report = healthy()
    unknown = (
        Diagnosis(rule="gc-pause", code="HO009", status=NOT_MEASURED, reason="not recorded"),
        Diagnosis(rule="unstable-steps", code="TR005", status=NOT_MEASURED, reason="one step", caution=True),
    )
    told = everywhere(replace(report, diagnoses=(*report.passed, *unknown)))
    assert 'Not measured, and why <span class="quiet small">(2)</span>' in told["html {}"]
    assert "2 not measured" in told["terminal {}"]


def test_a_question_is_no_change_of_a_line_and_is_not_to_be_fixed_first() -> None:
    found = Diagnosis(rule="slow-link", code="CO006", status=FAILED, fix=ASK, effort="line", risk="none")
    assert labels.fix_tags(found) == ()
    assert labels.fix_tags(replace(found, fix="pass")) == ("one-line change", "results unchanged")
    report = replace(loader_bound(), diagnoses=(replace(found, summary="slow", confidence="hint"),))
    for told in everywhere(report).values():
        assert "one-line change" not in told
        assert "**Fix first**" not in told


def test_a_question_in_a_short_row_says_what_it_asks() -> None:
    """The row was "exposed-communication, no estimate" and a command, and nothing said what for."""
    report = loader_bound()
    long = ASK.replace("DIR", "'/scratch/runs/of/a/long/experiment/run_rank*of2.pt.trace.json.gz'")
    ask = replace(report.failed[2], rule="exposed-communication", fix=long, saving=None)
    blocks = fixes(replace(report, diagnoses=(*report.failed[:2], ask)), Look(fixes=2))
    rows = [plain(row) for block in blocks for group in block.extra for row in group]
    assert any("# the traces of all ranks: which one is late, and why" in row for row in rows), rows


def test_idle_time_by_cause_adds_up_to_the_idle_time() -> None:
    """ "launching 140 ms, Python 25 ms" stood under 170 ms of idle time: two digits of 145."""
    idle = {"launch": 0.1449, "python": 0.0248}
    split = replace(loader_bound().breakdown, idle=sum(idle.values()), idle_causes=idle)
    for name, told in everywhere(replace(loader_bound(), breakdown=split)).items():
        assert "145 ms" in told, name
        assert "24.8 ms" in told, name


def test_a_sentence_of_the_plan_is_not_cut_in_its_middle() -> None:
    """It ended in "MFU then leave...". If the list of fixes is too long, its last ones are left out."""
    report = loader_bound()
    why = "of a peak of 80 TFLOP/s, without the removed 62 % of the FLOPs"
    long = replace(report, plan=replace(report.plan, lower_mfu=why))
    for tight in (0, 1, 2):
        rows = [plain(row) for block in fixes(long, Look(whole=False, tight=tight)) for row in block.fixed]
        told = " ".join(rows[next(i for i, row in enumerate(rows) if "All together" in row) :])
        assert told.removesuffix(", ...").removesuffix(" more").endswith(" ms"), told


def test_a_run_without_backward_has_no_line_with_its_backward() -> None:
    forward = Diagnosis(rule="forward-only", code="TR011", status=FAILED, summary="No backward pass", caution=True)
    line = CodeLine(place="model.py:7", seconds=0.2, share=0.5)
    training = replace(loader_bound(), code_lines=(line,))
    assert code_lines.title(training).endswith("with backward where the trace links it")
    inference = replace(training, diagnoses=(*training.diagnoses, forward))
    assert code_lines.title(inference) == "Your code: computing by function"
    for told in everywhere(inference).values():
        assert "with backward" not in told


def test_one_rank_of_eight_is_not_eight_devices() -> None:
    report = loader_bound()
    device = replace(report.device, count=8)
    of_rank = replace(report, device=device, run=replace(report.run, rank=0, world_size=8))
    assert "8 × " not in render(of_rank, "markdown")  # noqa: RUF001 - the sign meant
    assert "· rank 0 of 8" in render(of_rank, "markdown")
    assert "8 × " in render(replace(report, device=device), "markdown")  # noqa: RUF001 - the sign meant


def test_the_day_of_the_report_is_not_that_of_the_recording() -> None:
    text = render(loader_bound(), "terminal", verbose=True)
    assert f"report made: {loader_bound().created}" in text
    assert "syncs at: train.py:57" in text


def test_the_bound_says_that_it_rests_on_what_is_known() -> None:
    report = loader_bound()
    bound = replace(report, plan=replace(report.plan, roofline_s=0.1))
    for form, options in (("terminal", {"verbose": True}), ("html", {})):
        assert "at their roofline as far as it is known" in " ".join(render(bound, form, **options).split())


def test_a_file_beside_the_whole_run_can_be_opened() -> None:
    """ "j03_recipe...12, import_module()" names no file."""
    spent = Elsewhere(
        part=BEFORE, seconds=30.0, place="j03_recipes_mlm.py:12", function="import_module", kind="imports"
    )
    run = WholeRun(wall_s=100.0, ended=True, steps=100, steps_s=60.0, before_s=40.0, elsewhere=(spent,))
    [block] = whole(replace(healthy(), whole_run=run), Look())
    rows = [plain(row) for group in block.extra for row in group]
    assert any(row.endswith("j03_recipes_mlm.py:12") for row in rows), rows


def test_a_promise_that_only_the_noise_saves_came_true_within_it() -> None:
    """Predicted were 119 to 127 ms, measured 136, and "came true" stood beside it."""
    gone = finding(status="passed", summary="", fix=None, saving=None)
    before = report_of(steady(0.412, 0.001), trace="before.json", diagnoses=(finding(),))
    for measured, told in ((0.330, "came true;"), (0.3385, "came true within the noise;")):
        after = report_of(steady(measured, 0.001), trace="after.json", diagnoses=(gone,))
        assert f"the prediction for input-bound {told}" in " ".join(render_comparison(compare(before, after)).split())


def test_the_step_after_a_fix_is_the_step_less_what_it_saves() -> None:
    """ "saves 48 of 176 ms" stood beside a step of 130 ms after it: two digits of 128."""
    report = loader_bound()
    first = replace(report.plan.steps[0], step_s=0.3312, saving_s=0.0808)
    shown = replace(report, plan=replace(report.plan, steps=(first,)))
    for form, options in (("terminal", {"verbose": True}), ("html", {})):
        assert "331 ms" in render(shown, form, **options)
        assert "330 ms" not in render(shown, form, **options)


def test_a_guess_is_marked_wherever_its_saving_stands() -> None:
    """A guessed saving without a row had no mark, and was half of "All together"."""
    report = loader_bound()
    guessed = replace(report.failed[-1], confidence="hint")
    told = replace(report, diagnoses=tuple(guessed if d.rule == guessed.rule else d for d in report.diagnoses))
    rows = " ".join(plain(row).strip() for block in fixes(told, Look(fixes=1)) for row in block.fixed)
    assert f"{guessed.rule} 16 ms more (guessed)" in rows
    small = replace(told, step_time_s=None, breakdown=replace(told.breakdown, step_s=10.0))  # too little for a row
    rows = " ".join(plain(row).strip() for block in fixes(small, Look(fixes=1)) for row in block.fixed)
    assert " guessed" in rows.partition(f"{guessed.rule} about")[2].partition("All together")[0]


def test_one_remedy_of_two_cautions_is_told_once() -> None:
    """schedule(active=3) under the first and schedule(active=6) under the second: one recording mends both."""
    again = "torch.profiler.schedule(wait=5, warmup=2, active={})"
    lost = Caveat(kind="dropped-events", text="The trace has lost 1 event", remedy=again.format(3), spoils=FIGURES)
    few = Caveat(kind="few-steps", text="Only 1 analysed step", remedy=again.format(6), spoils=FIGURES)
    other = Caveat(kind="busy-machine", text="Others used the cores", remedy="# record it alone", spoils=FIGURES)
    report = replace(loader_bound(), caveats=(lost, few, other))
    for form in ("terminal", "markdown", "html"):
        told = render(report, form).partition("application/json")[0]  # the page holds its data too
        assert ("active=3" in told, "active=6" in told, "record it alone" in told) == (True, False, True), form
