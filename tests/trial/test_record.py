"""The record of trials: what is kept, where, and how right each rule has been."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from mfu_doctor.cli.selfcheck import about_trials
from mfu_doctor.render.board import board_markdown
from mfu_doctor.result.report import Report
from mfu_doctor.result.trial import CRASHED, OPEN, Trial, Tried
from mfu_doctor.trial.record import append, entries_of, read, record_file, standings
from tests.sample_report import full_report


def report(*tried: Tried) -> Report:
    return replace(full_report(), trial=Trial(program="train.py", budget_s=60.0, unchanged_s=0.1, tried=tried))


def tried(rule: str, saving: float, predicted: float = 0.05) -> Tried:
    return Tried(
        fixes=("it",),
        rule=rule,
        verdict="better",
        predicted_low_s=predicted - 0.002,
        predicted_s=predicted,
        predicted_high_s=predicted + 0.002,
        saving_low_s=saving - 0.003,
        saving_s=saving,
        saving_high_s=saving + 0.003,
        runs=3,
    )


def test_trials_are_kept_one_after_another(tmp_path: Path) -> None:
    path = tmp_path / "state" / "trials.jsonl"
    append(path, entries_of(report(tried("input-bound", 0.05))))
    append(path, entries_of(report(tried("input-bound", 0.02), tried("host-bound", 0.05))))
    assert [(entry.rule, entry.saving_s) for entry in read(path)] == [
        ("input-bound", 0.05),
        ("input-bound", 0.02),
        ("host-bound", 0.05),
    ]


def test_only_what_was_predicted_and_measured_is_kept() -> None:
    crashed = Tried(fixes=("it",), rule="input-bound", verdict=CRASHED)
    own = replace(tried("input-bound", 0.05), rule=None, predicted_s=None)
    assert entries_of(report(crashed, own)) == []
    assert entries_of(full_report()) == []


def test_lines_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    append(path, entries_of(report(tried("input-bound", 0.05))))
    path.write_bytes(b'{"rule": "of another version"}\n' + path.read_bytes() + b'{"when": "20')
    assert len(read(path)) == 1
    assert read(tmp_path / "missing") == read(None) == []


def test_how_right_each_rule_has_been(tmp_path: Path) -> None:
    kept = entries_of(
        report(*(tried("input-bound", saving) for saving in (0.05, 0.054, 0.02)), tried("host-bound", 0.05))
    )
    unsettled = replace(kept[0], verdict=OPEN, saving_s=0.0)
    first, second = standings([*kept, unsettled])
    assert (first.rule, first.tried, first.met) == ("input-bound", 3, 2)
    assert first.apart == pytest.approx(0.0)
    assert (second.rule, second.tried, second.met) == ("host-bound", 1, 1)
    told = about_trials([first, second], str(tmp_path))
    assert "    input-bound                    2 of 3 trials     +0.0 %\n" in told
    assert "    host-bound                     1 of 1 trial " in told
    assert max(map(len, told.replace(str(tmp_path), "PLACE").splitlines())) <= 80
    assert about_trials([], str(tmp_path)) == ""


def test_the_place_is_that_of_the_system() -> None:
    assert record_file({"XDG_STATE_HOME": "/state"}) == Path("/state/mfu-doctor/trials.jsonl")
    assert str(record_file({}, platform="linux")).endswith("/.local/state/mfu-doctor/trials.jsonl")
    assert str(record_file({}, platform="darwin")).endswith("/Library/Application Support/mfu-doctor/trials.jsonl")


def test_the_board_has_the_latest_trial_of_each_fix_on_each_program() -> None:
    """A step of 100 ms: 50 ms were predicted, and 60 are left."""
    older, newer = entries_of(report(tried("input-bound", 0.02)))[0], entries_of(report(tried("input-bound", 0.04)))[0]
    board = board_markdown([older, newer])
    assert "| train.py | it | input-bound | 100 ms | 50.0 ms | 60.0 ms | -16.7 % | better |" in board
    assert "80.0 ms" not in board
    assert "- |error| of the predicted step: median 16.7 % of 1" in board
