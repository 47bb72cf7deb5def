"""The promises of the terminal report: one screen, plain ASCII, fixed order, honest sums, no text that steers the terminal."""

from __future__ import annotations

import io
import re
import shlex
from html import unescape
from itertools import combinations
from typing import TextIO

import pytest
from msgspec.structs import replace
from syrupy.assertion import SnapshotAssertion

from mfu_doctor.diagnosis.concluded import concluded
from mfu_doctor.render import render
from mfu_doctor.render.terminal.fixes import fixes
from mfu_doctor.render.terminal.paint import Abilities, abilities
from mfu_doctor.render.terminal.panels import Look
from mfu_doctor.render.terminal.screen import ALL, Block, plain
from mfu_doctor.render.words.labels import marks_in_a_line
from mfu_doctor.render.words.next_commands import Origin
from mfu_doctor.result.caveats import Caveat
from mfu_doctor.result.findings import SURE, Overlap, Saving
from mfu_doctor.result.report import Report
from mfu_doctor.result.run import Mfu
from tests.goldens import GOLDENS, HOSTILE, healthy, interval, loader_bound, unknown_peak, worst

SGR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("name", GOLDENS)
def test_what_each_golden_report_looks_like(name: str, snapshot: SnapshotAssertion) -> None:
    assert render(GOLDENS[name](), "terminal") == snapshot


@pytest.mark.parametrize("name", GOLDENS)
def test_one_screen_of_plain_ascii(name: str) -> None:
    """34 lines of 80 columns, whatever the trace contains."""
    text = render(GOLDENS[name](), "terminal")
    lines = text.splitlines()
    assert len(lines) <= 34
    assert max(len(row) for row in lines) <= 80
    assert text.isascii()
    assert all(c == "\n" or c.isprintable() for c in text)


@pytest.mark.parametrize("name", GOLDENS)
def test_the_order_never_changes(name: str) -> None:
    """verdict, fix, number, where, what was checked, caution, next command."""
    text = render(GOLDENS[name](), "terminal")
    verdict = GOLDENS[name]().verdict
    assert verdict is not None
    marks = [
        verdict.sentence[:20],
        "fix   ",
        "MFU",
        "Step time breakdown",
        "Other checks",
        "Caution",
        "mfu-doctor ",
    ]
    places = [text.find(f"\n  {mark}") for mark in marks]
    found = [place for place in places if place >= 0]
    assert found == sorted(found)
    assert len(found) >= 5


@pytest.mark.parametrize("name", GOLDENS)
def test_printed_shares_sum_to_a_hundred(name: str) -> None:
    text = render(GOLDENS[name](), "terminal")
    table = text[text.index("Step time breakdown") :].split("\n\n")[0]
    shares = [round(float(found) * 10) for found in re.findall(r"(\d+\.\d) %", table)]
    assert sum(shares) == 1000


def test_printed_milliseconds_sum_to_the_step() -> None:
    text = render(loader_bound(), "terminal")
    table = text[text.index("Step time breakdown") :].split("\n\n")[0]
    assert sum(int(found) for found in re.findall(r"(\d+) +\d+\.\d %", table)) == 412


def test_the_first_ten_lines_stand_alone() -> None:
    """People paste them: trace, device, what limits the run, what to change and where, what it saves, how sure that is."""
    report = loader_bound()
    first = replace(report.diagnoses[0], place="train.py:41")
    shown = concluded(replace(report, diagnoses=(first, *report.diagnoses[1:])))
    head = " ".join("\n".join(render(shown, "terminal").splitlines()[:10]).split())
    for word in (
        "run.json.gz",
        "H100",
        "57 % computing, 21 % waiting for data",
        "the device waits for data (input-bound, train.py:41); saves 81 of 412 ms (1.2x, modelled)",
        "1 input-bound: GPU waits for data 21 % 81 ms modelled",
        "train.py:41 DataLoader(num_workers=12",
    ):
        assert word in head


@pytest.mark.parametrize("name", GOLDENS)
def test_colour_adds_no_words(name: str) -> None:
    """Stripped of styles, the coloured report is the plain one: no meaning in colour alone, and no red."""
    coloured = render(GOLDENS[name](), "terminal", screen=Abilities(color=True))
    assert SGR.search(coloured)
    assert SGR.sub("", coloured) == render(GOLDENS[name](), "terminal")
    assert "\x1b[31" not in coloured


def test_block_characters_only_on_a_terminal_that_can_show_them() -> None:
    assert "█" in render(loader_bound(), "terminal", screen=Abilities(unicode=True))


class _Stream(io.StringIO):
    def __init__(self, encoding: str, *, terminal: bool) -> None:
        super().__init__()
        self._encoding, self._terminal = encoding, terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("encoding", "terminal", "environ", "color", "unicode"),
    [
        ("utf-8", True, {"TERM": "xterm-256color"}, True, True),
        ("ascii", True, {"TERM": "xterm-256color"}, True, False),
        ("utf-8", False, {"TERM": "xterm-256color"}, False, False),
        ("utf-8", True, {"TERM": "xterm-256color", "NO_COLOR": "1"}, False, True),
        ("utf-8", False, {"TERM": "xterm-256color", "FORCE_COLOR": "1"}, True, False),
        ("utf-8", False, {"TERM": "xterm-256color", "FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ("utf-8", True, {"TERM": "dumb"}, False, True),
    ],
)
def test_what_a_stream_can_show(
    encoding: str, terminal: bool, environ: dict[str, str], color: bool, unicode: bool
) -> None:
    stream: TextIO = _Stream(encoding, terminal=terminal)
    found = abilities(stream, environ)
    assert (found.color, found.unicode) == (color, unicode)


@pytest.mark.parametrize("terminal", [False, True])
def test_columns_is_honoured_in_a_pipe_as_on_a_terminal(terminal: bool) -> None:
    stream = _Stream("utf-8", terminal=terminal)
    assert abilities(stream, {"COLUMNS": "120"}).width == 120
    assert abilities(stream, {"COLUMNS": "20"}).width == 60  # the tables need as many


def test_a_pipe_is_80_columns_wide_where_nobody_asks() -> None:
    assert abilities(_Stream("utf-8", terminal=False), {}).width == 80
    assert abilities(_Stream("utf-8", terminal=False), {"COLUMNS": "wide"}).width == 80


@pytest.mark.parametrize("width", [60, 72, 120])
@pytest.mark.parametrize("name", GOLDENS)
def test_no_line_is_wider_than_the_screen(name: str, width: int) -> None:
    report = GOLDENS[name]()
    rows = render(report, "terminal", screen=Abilities(width=width)).splitlines()
    assert not [row for row in rows if len(row) > width and " -o " not in row]  # a command to paste is never cut


def test_lines_to_paste_are_never_cut() -> None:
    """A fix was once shown as "DistributedDataParallel(model, gradient_as_bucket_vie..."."""
    report = loader_bound()
    long = "model = DistributedDataParallel(model, bucket_cap_mb=10, gradient_as_bucket_view=True, static_graph=True)"
    first = replace(report.diagnoses[0], fix=long)
    shown = render(replace(report, diagnoses=(first, *report.diagnoses[1:])), "terminal")
    assert long in " ".join(shown.split())
    for text in (shown, render(worst(), "terminal")):
        assert not re.search(r"^ {6}\S.*[=(,].*\.\.\.$", text, re.MULTILINE)
    assert "(the line to paste is too long for this screen)" in render(worst(), "terminal")
    assert "x" * 200 in render(worst(), "terminal", verbose=True)


def test_the_plan_names_its_fixes_in_order_and_what_pays_only_after_another() -> None:
    """ "Together" once summed up fixes of which some were nowhere on the screen."""
    report = loader_bound()
    late = replace(report.plan.steps[1], rule="tf32-off", pays_after="input-bound")
    tf32 = replace(report.diagnoses[2], rule="tf32-off", status="withheld", reason="it saves 0.0 ms", fix="tf32 = True")
    steps = (report.plan.steps[0], late, report.plan.steps[2])
    plan = replace(report.plan, steps=steps, at_floor=True, stop="no step below 280 ms is predicted: MFU 100 %")
    shown = replace(report, plan=plan, diagnoses=(*report.diagnoses, tf32))
    screen = " ".join(render(shown, "terminal").split())
    assert "input-bound 81 ms, tf32-off 28 ms more (only after input-bound), fp32-matmul 16 ms more" in screen
    assert "no step below 280 ms is predicted" in screen
    every = render(shown, "terminal", verbose=True)
    assert "    tf32 = True" in every
    assert "it saves 0.0 ms; saves time after input-bound" in every
    for form in ("markdown", "html"):
        assert "only after input-bound" in render(shown, form)
        assert "tf32 = True" in render(shown, form)


def test_a_listed_fix_that_is_not_in_the_plan_is_told_from_forgotten_ones() -> None:
    report = loader_bound()
    short = replace(
        report,
        plan=replace(
            report.plan,
            steps=report.plan.steps[:2],
            overlaps=(Overlap(rule=report.failed[2].rule),),
            notes=("x is left out: ValueError",),
        ),
    )
    for form, options in (("terminal", {"verbose": True}), ("markdown", {}), ("html", {})):
        text = " ".join(render(short, form, **options).split()).lower()
        assert "alone; too little after the others" in text
        assert "x is left out: valueerror" in text


def test_of_a_fix_that_could_not_be_simulated_it_is_not_said_that_it_adds_too_little() -> None:
    report = loader_bound()
    left_out = (f"{report.failed[1].rule} could not be simulated with the other fixes: ValueError",)
    short = replace(report, plan=replace(report.plan, steps=report.plan.steps[:1], notes=left_out))
    for form, options in (("terminal", {"verbose": True}), ("markdown", {}), ("html", {})):
        assert "too little after" not in render(short, form, **options)


def _rows(blocks: list[Block]) -> list[str]:
    return [plain(row) for block in blocks for row in block.fixed]


def test_however_full_the_screen_is_savings_do_not_read_as_a_sum() -> None:
    """The row "2 host-made-tensor 1.6 ms" stood above a plan in which it saves 760 us."""
    report = loader_bound()
    first, second, third = report.failed
    long = replace(second, rule="a-rule-whose-name-fills-its-column-nearly", summary="word " * 60)
    ask = replace(third, fix="mfu-doctor report DIR  # the traces of all ranks")
    overlaps = (Overlap(rule=long.rule, covered_by=first.rule),)
    plan = replace(report.plan, steps=report.plan.steps[:1], overlaps=overlaps)
    shown = replace(report, diagnoses=(first, long, ask), plan=plan)
    for tight in (0, 1, 2, 3):
        for most in (1, 2):
            look = Look(fixes=most, whole=tight == 0, tight=tight)
            rows = _rows(fixes(shown, look))
            assert any("alone" in row for row in rows), (tight, most, rows)
            assert any("at stake" in row for row in rows), (tight, most, rows)
    small = replace(ask, saving=Saving(low=0.001, mid=0.001, high=0.001))
    listed = fixes(replace(shown, diagnoses=(first, small)), Look(fixes=1))
    assert any(f"{small.rule} 1.0 ms at stake" in row for row in _rows(listed))


def test_fixes_that_one_other_covers_name_it() -> None:
    report = loader_bound()
    overlaps = tuple(Overlap(rule=rule, covered_by="input-bound") for rule in ("host-bound", "fp32-matmul"))
    alone = replace(report, plan=replace(report.plan, steps=report.plan.steps[:1], overlaps=overlaps))
    for form in ("terminal", "markdown"):
        text = " ".join(render(alone, form).split())
        assert "All together: no more than input-bound alone" in text
        assert text.count("alone; too little after input-bound") == 2


def test_a_fix_that_saves_more_after_others_says_what_it_saves_alone() -> None:
    """A row of 3.3 ms and a plan in which the same fix saved 9.6 stood on one screen."""
    report = loader_bound()
    first, second, *rest = report.plan.steps
    more = replace(report, plan=replace(report.plan, steps=(first, replace(second, saving_s=0.12), *rest)))
    saving = report.failed[1].saving
    assert saving is not None
    assert f"host-bound 120 ms more ({1000 * saving.mid:.0f} ms alone)" in " ".join(render(more, "terminal").split())


@pytest.mark.parametrize("width", [80, 120])
def test_a_fix_that_adds_little_to_those_above_says_so_in_its_row(width: int) -> None:
    """Two savings under each other are read as a sum: 170 ms and 65 ms of a step of 214.

    On a narrow screen there is room for one word of it beside what the fix risks: how much it adds stands in the plan.
    """
    report = loader_bound()
    first, second, *rest = report.plan.steps
    less = replace(report, plan=replace(report.plan, steps=(first, replace(second, saving_s=0.005), *rest)))
    covered = (Overlap(rule=second.rule, covered_by=first.rule),)
    none = replace(report, plan=replace(report.plan, steps=(first,), overlaps=covered))
    told = ((less, "alone; 5.0 ms after those above"), (none, f"alone; too little after {first.rule}"))
    for shown, words in told:
        for form in ("markdown", "html"):
            assert words in render(shown, form).replace("Alone", "alone").replace("\u00a0", " ")
    shares = replace(less, savings_are_shares=True)
    amounts = ((less, "5.0 ms"), (shares, "1.2 %"))
    for shown, amount in amounts:
        text = " ".join(render(shown, "terminal", screen=Abilities(width=width)).split())
        long = f"{second.rule} (alone; {amount} after those above; changes rounding)"
        assert f"{second.rule} (alone; changes rounding)" in text if width == 80 else long in text
        assert f"{second.rule} {amount} more" in text
    assert f"alone; too little after {first.rule}" in render(none, "terminal", screen=Abilities(width=width))


def test_a_plan_of_the_first_fix_alone_is_not_told_twice() -> None:
    report = loader_bound()
    only = replace(report, plan=replace(report.plan, steps=report.plan.steps[:1]), diagnoses=report.diagnoses[:1])
    assert "All together" not in render(only, "terminal")


def test_cautions_do_not_repeat_each_other_or_the_headline() -> None:
    report = unknown_peak()
    few = replace(
        report.diagnoses[-1], rule="few-steps", summary="Only 1 steady step", detail="only one step", caution=True
    )
    peak = replace(few, rule="unknown-peak", summary="No peak is known, so MFU is unknown", detail=None)
    doubled = replace(
        report,
        diagnoses=(few, peak),
        run=replace(report.run, steps_note="only one step"),
        cautions=("Only 1 steady step", "No peak is known, so MFU is unknown", "only one step"),
    )
    text = render(concluded(doubled), "terminal")
    assert "  Caution       Only 1 steady step\n" in text
    assert "only one step" not in text
    assert "No peak is known" not in text


def test_an_efficiency_is_not_stated_where_most_flops_are_unknown() -> None:
    """A step whose FLOPs were counted for 3 % was once said to compute at 0.27 % of peak."""
    quiet = concluded(replace(healthy(), mfu=replace(healthy().mfu, value=0.003, upper=0.807, hfu=None, coverage=0.03)))
    assert "94 % computing, MFU 0.3-81 %;" in " ".join(render(quiet, "terminal").split())


def test_widened_predictions_are_no_caution_where_nothing_is_predicted() -> None:
    widened = replace(healthy().replay, reason="predictions are widened", trusted=True)
    assert "widened" not in render(concluded(replace(healthy(), replay=widened)), "terminal")
    assert "widened" in render(concluded(replace(loader_bound(), replay=widened)), "terminal", verbose=True)
    assert "widened" in render(concluded(replace(healthy(), replay=replace(widened, trusted=False))), "terminal")


def test_the_device_is_not_cut_in_favour_of_what_every_trace_is_called() -> None:
    run = replace(healthy().run, trace="v100_resnet50_workers0.pt.trace.json.gz", rank=None, world_size=None)
    head = render(replace(healthy(), run=run), "terminal").splitlines()[0]
    assert "v100_resnet50_workers0" in head
    assert "NVIDIA H100 80GB HBM3" in head


def test_the_star_at_a_measured_peak_is_explained() -> None:
    for form in ("terminal", "markdown", "html"):
        text = render(GOLDENS["cpu_only"](), form)
        assert "Do not compare" in " ".join(text.split())
        assert "Do not compare" not in render(loader_bound(), form)


def test_verbose_tables_line_up_and_keep_the_names_that_matter() -> None:
    report = loader_bound()
    names = (
        "void cudnn::detail::dgrad_engine<float, 512, 6, 5, 3, 3, 3, false>(int, int, int)",
        "volta_scudnn_128x64_stridedB_splitK_medium_nn_v1",
    )
    kernels = tuple(replace(report.kernels[0], name=name, seconds=0.01 / (i + 1)) for i, name in enumerate(names))
    text = render(replace(report, kernels=kernels), "terminal", verbose=True)
    table = text[text.index("Kernels, per step") :].split("\n\n")[0].splitlines()[1:]
    column = table[0].index("name")
    assert all(row[column - 1] == " " and row[column] != " " for row in table)
    assert "dgrad_engine" in "".join(row[column:] for row in table)
    assert names[1] in "".join(row[column:] for row in table)


def test_an_unknown_mfu_names_the_flag_that_gives_it() -> None:
    text = render(unknown_peak(), "terminal")
    assert "MFU unknown" in text
    assert "--peak-flops" in text


def test_an_unknown_mfu_names_a_flag_even_where_the_reason_does_not() -> None:
    bare = replace(unknown_peak(), device=replace(unknown_peak().device, peak_reason="no row for this device"))
    assert "--peak-flops" in render(bare, "terminal")
    uncounted = replace(healthy(), mfu=Mfu(reason="no shapes were recorded"))
    assert "--model-flops" in render(uncounted, "terminal")


def test_partial_coverage_prints_an_interval() -> None:
    assert "MFU 28.1-34.5 %" in render(interval(), "terminal")


def test_a_measured_peak_is_marked() -> None:
    text = render(GOLDENS["cpu_only"](), "terminal")
    assert "MFU* 61.1 %" in text
    assert "measured here" in text


def test_a_healthy_run_says_so_and_what_limits_it() -> None:
    text = " ".join(render(healthy(), "terminal").split())
    assert "94 % computing, MFU 52 %; no known fix saves 1 % of the step. At full rates its kernels would take" in text


def test_a_vanishing_mfu_is_not_none() -> None:
    report = loader_bound()
    (first, *rest) = report.diagnoses
    assert first.saving is not None
    tiny = replace(first, saving=replace(first.saving, mfu_low=2.3e-7, mfu_high=2.7e-7))
    text = render(replace(report, diagnoses=(tiny, *rest)), "terminal", verbose=True)
    assert "MFU then <0.01 %" in text


def test_withheld_advice_keeps_its_number_and_replay_its_error() -> None:
    assert "idle by cause: launching 41.2 ms, sync 11.0 ms, Python 2.75 ms" in render(loader_bound(), "terminal")
    text = " ".join(render(loader_bound(), "terminal", verbose=True).split())
    assert "removing them saves 0.0 ms" in text
    assert "replay error -0.4 %" in text


def test_the_first_screen_counts_what_was_checked_and_minus_v_lists_it() -> None:
    screen = render(loader_bound(), "terminal")
    assert "Other checks: 9 passed, 1 too small, 2 not measured  (-v lists all)" in screen
    assert "pageable-copy" not in screen
    assert "pageable-copy" in render(loader_bound(), "terminal", verbose=True)


def test_verbose_explains_the_words_of_the_first_screen() -> None:
    """Idle causes, replay, effort and confidence were codes that only the source explained."""
    text = " ".join(render(loader_bound(), "terminal", verbose=True).split())
    assert "41.2 ms launching (host-bound): the CPU launches kernels too slowly" in text
    assert "Savings are predicted by replay: the recorded timeline is simulated again with the problem removed." in text
    assert "one-line change" in text


def test_shares_of_kernels_above_the_whole_step_are_explained() -> None:
    report = loader_bound()
    twice = tuple(replace(row, share=0.9) for row in (*report.kernels, *report.kernels))
    for form, options in (("terminal", {"verbose": True}), ("html", {})):
        assert "more than 100 %" in " ".join(render(replace(report, kernels=twice), form, **options).split())
        assert "add up to more than 100 %" not in render(report, form, **options)


def test_verbose_lists_every_rule_and_its_evidence() -> None:
    report = worst()
    text = render(report, "terminal", verbose=True)
    assert ALL not in text
    for diagnosis in report.diagnoses:
        if not diagnosis.caution:
            assert diagnosis.rule[:20] in text
    assert "wait per step: 88.0 ms at train.py:41" in render(loader_bound(), "terminal", verbose=True)


@pytest.mark.parametrize("verbose", [False, True])
def test_names_from_a_trace_cannot_steer_the_terminal_or_the_ci_log(verbose: bool) -> None:
    """Escapes, bidirectional overrides and line breaks are gone; no line can be read as a GitHub workflow command."""
    assert "\x1b" in HOSTILE
    text = render(worst(), "terminal", verbose=verbose, screen=Abilities(unicode=True))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert not any(row.lstrip().startswith("::") for row in text.splitlines())


def test_commands_to_paste_are_quoted() -> None:
    report = replace(healthy(), run=replace(healthy().run, trace="a b; rm -rf ~.json"))
    assert "mfu-doctor report 'a b; rm -rf ~.json' -o report.html" in render(report, "terminal")


def test_commands_name_the_trace_as_the_user_did() -> None:
    origin = Origin("runs/exp1/good.json.gz")
    for form in ("terminal", "markdown", "html"):
        assert " runs/exp1/good.json.gz -o" in render(healthy(), form, origin=origin)


def test_a_long_command_goes_on_in_lines_that_a_shell_reads_as_one() -> None:
    path = "/home/somebody/experiments/2026-11-29 second try/ranks/rank0.pt.trace.json.gz"
    text = render(healthy(), "terminal", origin=Origin(path))
    begin = text.index("mfu-doctor annotate")
    assert shlex.split(text[begin:].replace("\\\n", "")) == ["mfu-doctor", "annotate", path, "-o", "marked.json.gz"]


def test_a_stream_and_a_saved_report_get_only_commands_that_work() -> None:
    assert "mfu-doctor report" not in render(healthy(), "terminal", origin=Origin("-"))
    saved = render(healthy(), "terminal", origin=Origin("a.json", is_saved=True))
    assert "mfu-doctor report a.json -o report.html" in saved
    assert "annotate" not in saved


@pytest.mark.parametrize("form", ["terminal", "markdown", "html"])
def test_a_fix_that_is_a_command_names_the_trace(form: str) -> None:
    report = loader_bound()
    first = replace(report.diagnoses[0], fix="mfu-doctor report TRACE --model-flops N")
    changed = replace(report, diagnoses=(first, *report.diagnoses[1:]))
    text = render(changed, form, origin=Origin("runs/a.json.gz"))
    assert "mfu-doctor report runs/a.json.gz --model-flops N" in text


LONG = "The model was recorded while other programs used the machine, so its times are longer than " * 3 + "at rest."


@pytest.mark.parametrize("width", [80, 120])
def test_no_sentence_is_cut_while_the_screen_holds_them_whole(width: int) -> None:
    report = healthy()
    told = replace(report, mfu=replace(report.mfu, value=None, reason=LONG), caveats=(Caveat(kind="note", text=LONG),))
    text = render(told, "terminal", screen=Abilities(width=width))
    assert " ".join(text.split()).count(LONG) == 2
    assert len(text.splitlines()) <= 34


@pytest.mark.parametrize("name", GOLDENS)
def test_that_all_is_listed_by_an_option_is_said_once(name: str) -> None:
    text = render(GOLDENS[name](), "terminal")
    assert text.count(ALL.strip()) == text.count("Other checks: ")


def test_a_screen_that_is_too_small_for_whole_sentences_cuts_them() -> None:
    assert len(render(worst(), "terminal").splitlines()) <= 34


def ranked() -> Report:
    report = loader_bound()
    first = replace(
        report.diagnoses[0], fix="mfu-doctor report DIR  # the traces of all ranks: which one is late, and why"
    )
    run = replace(report.run, rank=3, world_size=8)
    return replace(report, run=run, diagnoses=(first, *report.diagnoses[1:]))


@pytest.mark.parametrize("form", ["terminal", "markdown", "html"])
@pytest.mark.parametrize(
    ("origin", "named"),
    [
        (Origin("runs/7/rank3.json.gz", folder="runs/7"), "mfu-doctor report runs/7"),
        (Origin("runs/dlrm_rank3of8.json.gz"), "mfu-doctor report DIR"),
        (Origin("a_rank3.json", ranks="a_rank*.json"), "mfu-doctor report 'a_rank*.json'"),
        (Origin("runs/host_12.json.gz"), "mfu-doctor report DIR"),
        (Origin("a.json", is_saved=True), "mfu-doctor report DIR"),
    ],
)
def test_all_ranks_are_named_by_a_folder_only_if_it_holds_one_run(form: str, origin: Origin, named: str) -> None:
    """A folder with traces of other programs was advised as the folder of all ranks."""
    text = unescape(render(ranked(), form, origin=origin))
    assert named in text
    assert ("all ranks: who is late" in text) is (origin.folder is not None and form != "markdown")


def test_a_command_that_is_too_long_goes_on_in_a_fix_too() -> None:
    pattern = "experiments/second_try/recommendation_model_dlrm_rank*.json.gz"
    origin = Origin(pattern.replace("*", "3"), ranks=pattern)
    rows = render(ranked(), "terminal", origin=origin).splitlines()
    begin = next(i for i, row in enumerate(rows) if row.strip() == "mfu-doctor report \\")
    assert rows[begin + 1].strip() == f"'{pattern}'"


def test_without_stacks_the_screen_says_why_no_fix_has_a_line() -> None:
    report = loader_bound()
    bare = replace(report, run=replace(report.run, captured=False, settings={}), code_lines=())
    without = replace(bare, diagnoses=tuple(replace(d, place=None) for d in bare.diagnoses))
    told = "lines of code: stacks were not recorded (with_stack=True, or mfu-doctor run)"
    assert told in render(without, "terminal", verbose=True)
    placed = replace(without, diagnoses=(replace(without.diagnoses[0], place="train.py:4"), *without.diagnoses[1:]))
    recorded = replace(without, run=replace(without.run, settings={"with_stack": True}, site=None))
    assert not any("lines of code" in render(other, "terminal", verbose=True) for other in (placed, recorded))


@pytest.mark.parametrize("name", GOLDENS)
def test_what_the_marks_of_amounts_mean_stands_on_every_screen(name: str) -> None:
    """It gave way where the screen was full, and "modelled" told a newcomer nothing."""
    report = GOLDENS[name]()
    said = render(report, "terminal")
    used = {found.sure for found in report.failed if f"  {found.sure}\n" in said}
    assert bool(used) == any(found.saving is not None for found in report.failed)
    assert all(f"{mark}: " in said for mark in used)


def test_the_marks_of_amounts_take_one_line_of_80_columns() -> None:
    assert all(len(marks_in_a_line(used)) <= 78 for many in (1, 2, 3) for used in combinations(SURE, many))
    assert marks_in_a_line(()) == ""


def test_a_trace_without_marks_has_no_step_in_its_head() -> None:
    """ "1 step" stood above "the whole trace is treated as one step"."""
    report = loader_bound()
    whole = replace(report, run=replace(report.run, steps=1, steps_source="whole trace"))
    for form in ("terminal", "markdown"):
        shown = render(whole, form)
        assert "no steps marked" in shown
        assert "1 step " not in shown
