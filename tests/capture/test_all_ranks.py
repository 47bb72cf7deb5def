"""At the end of a run rank 0 prints the report of all ranks if they are there soon, and never waits for one that died."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from mfu_doctor.api.report import Report
from mfu_doctor.facts import PARTIAL
from mfu_doctor.result.report import WholeRun
from mfu_doctor.session import all_ranks
from mfu_doctor.session.all_ranks import job_told, traces_of_all
from mfu_doctor.session.ending import told
from tests.job.drawn_traces import write_job

RANK_1 = "rank1.pt.trace.json.gz"


@dataclass
class Clock:
    """Stands for `time`: what sleeps goes on at once, and is counted."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)
    time_ns = staticmethod(time.time_ns)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(all_ranks, "time", made)
    monkeypatch.setattr(all_ranks, "_patience", all_ranks.Patience())
    return made


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
    assert "for rank 1" in " ".join(" ".join(text.splitlines()[1:6]).split())
    assert "mfu-doctor report run " in text


def test_a_rank_that_died_costs_a_bounded_wait_and_the_own_report_says_how_to_go_on(folder: Path, clock: Clock) -> None:
    (folder / RANK_1).rename(folder / f"{RANK_1}{PARTIAL}")
    report, path = own(folder)
    text = told(report, path, folder.parent)
    assert 0 < sum(clock.slept) < all_ranks.LONGEST_WAIT_S + 1
    assert "rank 0 of 2" in text.splitlines()[0]
    assert "mfu-doctor report run" in text


def test_many_blocks_wait_no_longer_than_one(folder: Path, clock: Clock) -> None:
    (folder / RANK_1).rename(folder / f"{RANK_1}{PARTIAL}")
    assert not traces_of_all(*own(folder))
    once = sum(clock.slept)
    assert not traces_of_all(*own(folder))
    assert sum(clock.slept) == once


def test_a_rank_that_is_late_is_waited_for(folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    unfinished = (folder / RANK_1).rename(folder / f"{RANK_1}{PARTIAL}")
    monkeypatch.setattr(clock, "sleep", lambda seconds: unfinished.rename(folder / RANK_1))
    assert len(traces_of_all(*own(folder))) == 2


@pytest.mark.parametrize("left", [None, RANK_1, f"{RANK_1}{PARTIAL}"])
def test_a_rank_that_records_nothing_here_is_not_waited_for(folder: Path, clock: Clock, left: str | None) -> None:
    """Only rank 0 records, or each in a folder of its own; an earlier run may have left a file."""
    found = folder / RANK_1
    if left is None:
        found.unlink()
    else:
        os.utime(found.rename(folder / left), (time.time() - 3600, time.time() - 3600))
    assert not traces_of_all(*own(folder))
    assert not clock.slept


def test_what_takes_long_to_read_is_left_to_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert traces_of_all(*own(folder))
    monkeypatch.setattr(all_ranks, "MOST_BYTES", 100)
    assert not traces_of_all(*own(folder))


def test_a_run_of_one_rank_waits_for_nobody(folder: Path) -> None:
    report, path = own(folder)
    alone = replace(report, run=replace(report.run, world_size=1))
    assert not traces_of_all(alone, path)
    renamed = path.rename(path.with_name("mine.pt.trace.json.gz"))
    assert not traces_of_all(report, renamed)


def test_the_source_is_named_as_the_program_was_started(folder: Path) -> None:
    text = job_told(sorted(folder.iterdir()), folder.parent)
    assert str(folder.parent) not in text


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_rank_that_cannot_be_read_does_not_cost_the_own_report(folder: Path, content: bytes) -> None:
    (folder / RANK_1).write_bytes(content)
    lines = told(*own(folder), folder.parent).splitlines()
    assert "rank 0 of 2" in lines[0]
    assert lines[-1].startswith("mfu-doctor: the report of all ranks could not be made: ")
    assert RANK_1 in lines[-1]


def test_no_other_trace_of_the_folder_is_taken_for_a_rank_of_this_run(tmp_path: Path) -> None:
    folder = write_job(tmp_path / "run", 4)
    report, path = own(folder)
    of_two = replace(report, run=replace(report.run, world_size=2))
    assert [trace.name for trace in traces_of_all(of_two, path)] == [path.name, RANK_1]
    assert "2 of 4 ranks" in told(of_two, path, tmp_path).splitlines()[0]


AT_EXIT = """
import atexit, sys, threading
from pathlib import Path

def end():
    from msgspec.structs import replace
    from mfu_doctor.result.report import WholeRun
    from mfu_doctor.session.ending import report_of, told
    path = Path(sys.argv[1])
    report = replace(report_of(path, None), whole_run=WholeRun(wall_s=60.0, ended=True, steps=6, steps_s=50.0))
    print(told(report, path, None))

atexit.register(end)
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


def test_all_ranks_are_told_while_python_exits(folder: Path) -> None:
    """No thread can start there, and what is made of threads cannot be imported."""
    script = folder.parent / "train.py"
    script.write_text(AT_EXIT)
    ran = subprocess.run([sys.executable, script, own(folder)[1]], capture_output=True, text=True, check=True)
    assert "2 ranks" in ran.stdout.splitlines()[0], ran.stdout + ran.stderr
