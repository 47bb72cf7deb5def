"""The whole run in every output: its steps, and all that is none, with its line."""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.api.report import Report
from mfu_doctor.facts.whole_run import BEFORE, BETWEEN, LONG, Elsewhere, WholeRun
from mfu_doctor.render.html.html import render_html
from mfu_doctor.render.markdown import render_markdown
from mfu_doctor.render.terminal.terminal import render_terminal
from mfu_doctor.render.words import whole_run
from tests.goldens import healthy

EVALUATING = WholeRun(
    wall_s=110.0,
    ended=True,
    steps=1000,
    steps_s=40.0,
    profiled_steps=10,
    before_s=10.0,
    between_s=30.0,
    long_s=18.0,
    after_s=2.0,
    recorder_s=10.0,
    elsewhere=(
        Elsewhere(part=BETWEEN, seconds=28.0, place="train.py:38", function="validate", kind="evaluation"),
        Elsewhere(part=LONG, seconds=9.0, place="train.py:31", function="backward", kind="training"),
        Elsewhere(part=BEFORE, seconds=10.0, place="train.py:3", kind="imports"),
    ),
)


def report_of(run: WholeRun) -> Report:
    return replace(healthy(), whole_run=run)


def test_the_rows_are_all_of_the_run_and_sum_to_a_hundred() -> None:
    rows = whole_run.rows(report_of(EVALUATING), None)
    assert [(row.label, row.seconds) for row in rows] == [
        ("usual steps", 40.0),
        ("evaluation", 28.0),
        ("in long steps", 18.0),
        ("imports", 10.0),
        ("between steps", 2.0),
        ("after last step", 2.0),
    ]
    assert sum(row.tenths for row in rows) == 1000
    assert sum(row.seconds for row in rows) == EVALUATING.own_s


def test_every_output_names_the_line() -> None:
    report = report_of(EVALUATING)
    terminal = render_terminal(report)
    assert "Whole run (100 s, 1,000 steps)" in terminal
    assert "28  28.0 %  train.py:38, validate()" in terminal
    assert all(len(line) <= 80 for line in terminal.splitlines())
    assert "recording took 10 s" in render_terminal(report, verbose=True)
    assert "| evaluation | 28 | 28.0 % | train.py:38, validate() |" in render_markdown(report).replace("\\", "")
    assert "train.py:38, validate()" in render_html(report)


def test_a_run_that_is_all_steps_says_so_in_one_line() -> None:
    terminal = render_terminal(report_of(WholeRun(wall_s=100.0, ended=True, steps=1000, steps_s=99.0, before_s=1.0)))
    assert "training steps are 99 % of the run (100 s, 1,000 steps)" in terminal
    assert "Whole run" not in terminal


def test_a_trace_of_another_profiler_has_no_such_rows() -> None:
    assert whole_run.rows(healthy()) == []
    assert "Whole run" not in render_terminal(healthy())
