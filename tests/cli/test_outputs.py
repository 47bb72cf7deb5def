"""Every output of every verb on a full disk, into a directory, over its input, into pipes: whole or as it was, one sentence."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mfu_doctor.annotation.annotate import annotate
from mfu_doctor.capture.patience import joined
from mfu_doctor.cli.check import SUMMARY_VARIABLE, CheckOptions, run_check
from mfu_doctor.cli.compare import CompareOptions, run_compare
from mfu_doctor.cli.report import ReportOptions, run_report
from mfu_doctor.errors import DoctorError
from mfu_doctor.files import append_file
from tests.patience import LONGEST_S
from tests.timeline import Timeline
from tests.traces import ROOT


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """A trace, alone in its directory."""
    timeline = Timeline()
    for _ in range(4):
        with timeline.step():
            timeline.op("aten::mm", kernel=500)
    (tmp_path / "a.json").write_text(json.dumps(timeline.json()))
    return str(tmp_path / "a.json")


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow meanwhile (pipes and devices may): what a write gets on a full disk, without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


Write = Callable[[str, str], object]  # from a trace to an output


def _report(form: str) -> Write:
    return lambda trace, output: run_report(trace, ReportOptions(format=form, output=output))


def _check(form: str) -> Write:
    return lambda trace, output: run_check([trace], CheckOptions(format=form, output=output), environ={})


def _compare(form: str) -> Write:
    return lambda trace, output: run_compare(trace, trace, CompareOptions(format=form, output=output))


def _summary(trace: str, output: str) -> object:
    return run_check([trace], CheckOptions(summary=True), environ={SUMMARY_VARIABLE: output})


WRITES: dict[str, Write] = {
    **{f"report {form}": _report(form) for form in ("terminal", "markdown", "html", "notebook")},
    **{f"check {form}": _check(form) for form in ("terminal", "markdown", "github", "junit", "json")},
    **{f"compare {form}": _compare(form) for form in ("terminal", "markdown", "json")},
    "check --summary": _summary,
    "annotate": annotate,
}


@pytest.mark.parametrize("name", WRITES)
def test_a_full_disk_changes_nothing(name: str, trace: str, tmp_path: Path) -> None:
    output = tmp_path / "output"
    for before in (None, "old\n"):
        if before is not None:
            output.write_text(before)
        with full_disk(), pytest.raises(DoctorError, match=r"output cannot be written \(File too large\)"):
            WRITES[name](trace, str(output))
        assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.name != "a.json"} == (
            {} if before is None else {"output": before}
        )


@pytest.mark.parametrize("name", WRITES)
def test_what_cannot_be_written_is_one_sentence(name: str, trace: str, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing" / "output", Path("/dev/full"), Path("/proc/self/output")):
        with pytest.raises(DoctorError, match="cannot be written") as told:
            WRITES[name](trace, str(place))
        assert str(told.value).count("\n") == 0
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


@pytest.mark.parametrize("alias", ["itself", "link", "hard link", "other folder"])
@pytest.mark.parametrize("name", WRITES)
def test_no_output_goes_over_its_own_input(name: str, alias: str, trace: str, tmp_path: Path) -> None:
    before, target = Path(trace).read_bytes(), tmp_path / "alias"
    if alias == "link":
        target.symlink_to(trace)
    elif alias == "hard link":
        target.hardlink_to(trace)
    else:
        target = tmp_path / ("a.json" if alias == "itself" else f"../{tmp_path.name}/./a.json")
    with pytest.raises(DoctorError, match="is an input file"):
        WRITES[name](trace, str(target))
    assert Path(trace).read_bytes() == before


@pytest.mark.parametrize("name", ["report html", "check junit", "compare json", "check --summary", "annotate"])
def test_a_pipe_is_given_up_without_a_reader_and_served_with_one(
    name: str, trace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    later = threading.Timer(0.2, reader.start)  # a shell may start it after us
    monkeypatch.setattr("mfu_doctor.files.LONGEST_WAIT_S", LONGEST_S)
    later.start()
    WRITES[name](trace, str(pipe))
    later.join()
    assert joined(reader, LONGEST_S)
    assert len(got[0]) > 100
    monkeypatch.setattr("mfu_doctor.files.LONGEST_WAIT_S", 0.1)
    with pytest.raises(DoctorError, match="no process reads this pipe"):
        WRITES[name](trace, str(pipe))
    assert pipe.is_fifo()


def test_a_summary_is_added_to_what_stands_there(trace: str, tmp_path: Path) -> None:
    output = tmp_path / "summary.md"
    output.write_text("first\n")
    for _ in range(2):
        _summary(trace, str(output))
    text = output.read_text()
    assert text.startswith("first\n")
    assert text.count("mfu-doctor") >= 2


def test_a_link_without_a_target_survives_a_full_disk(tmp_path: Path) -> None:
    link = tmp_path / "link.md"
    link.symlink_to(tmp_path / "real.md")
    with full_disk(), pytest.raises(DoctorError):
        append_file(link, "text")
    assert link.is_symlink()
    assert not (tmp_path / "real.md").exists()


SENTENCE = "0123456789" * 1_000 + "\n"
WRITERS = f"""
import sys
from mfu_doctor.files import append_file, write_file
for number in range(50):
    append_file("summary.md", {SENTENCE!r})
    write_file("report.json", sys.argv[1] * 100_000)
"""


def test_two_writers_at_one_time_leave_whole_files(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITERS, name], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        for name in "ab"
    ]
    assert [writer.wait(LONGEST_S) for writer in writers] == [0, 0]
    assert (tmp_path / "summary.md").read_text() == SENTENCE * 100
    assert (tmp_path / "report.json").read_text() in ("a" * 100_000, "b" * 100_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "summary.md"]
