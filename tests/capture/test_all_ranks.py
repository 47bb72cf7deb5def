"""At the end of a run rank 0 prints the report of all ranks if they are there soon, and never waits for one that died."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mfu_doctor.api.report import Report
from mfu_doctor.result.report import WholeRun
from mfu_doctor.session import all_ranks
from mfu_doctor.session.all_ranks import are_all_there, job_told
from mfu_doctor.session.ending import told
from tests.job.drawn_traces import write_job


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_job(tmp_path / "run", 2)


def own(folder: Path) -> tuple[Report, Path]:
    """The report of rank 0 of a block that took a minute, and its trace."""
    path = folder / "rank0.pt.trace.json.gz"
    report = Report.load(path)
    return replace(report, whole_run=WholeRun(wall_s=60.0, ended=True, steps=6, steps_s=50.0)), path


def test_all_ranks_are_told_together(folder: Path) -> None:
    text = told(*own(folder), folder.parent)
    assert "2 ranks" in text.splitlines()[0]
    assert "rank 1" in text.splitlines()[1] + text.splitlines()[2]
    assert "mfu-doctor report run " in text


def test_a_rank_that_died_costs_a_bounded_wait_and_the_own_report_says_how_to_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "rank1.pt.trace.json.gz").unlink()
    monkeypatch.setattr(all_ranks, "LONGEST_WAIT_S", 0.2)
    report, path = own(folder)
    began = time.monotonic()
    assert not are_all_there(report, path, within_s=0.2)
    assert time.monotonic() - began < 10
    text = told(report, path, folder.parent)
    assert "rank 0 of 2" in text.splitlines()[0]
    assert "mfu-doctor report run" in text


def test_a_trace_of_an_earlier_run_is_not_taken_for_one_of_this(folder: Path) -> None:
    stale = folder / "rank1.pt.trace.json.gz"
    os.utime(stale, (time.time() - 3600, time.time() - 3600))
    assert not are_all_there(*own(folder), within_s=0)


def test_what_takes_long_to_read_is_left_to_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert are_all_there(*own(folder), within_s=0)
    monkeypatch.setattr(all_ranks, "MOST_BYTES", 100)
    assert not are_all_there(*own(folder), within_s=0)


def test_a_run_of_one_rank_waits_for_nobody(folder: Path) -> None:
    report, path = own(folder)
    alone = replace(report, run=replace(report.run, world_size=1))
    assert not are_all_there(alone, path)
    renamed = path.rename(path.with_name("mine.pt.trace.json.gz"))
    assert not are_all_there(report, renamed)


def test_the_source_is_named_as_the_program_was_started(folder: Path) -> None:
    text = job_told(folder / "rank0.pt.trace.json.gz", folder.parent)
    assert str(folder.parent) not in text
