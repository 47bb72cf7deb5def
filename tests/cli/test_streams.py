"""Closed, full and broken streams, names that are no text, a place that is gone: a result or one sentence, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mfu_doctor.json_text import json_bytes, readable
from tests.patience import LONGEST_S
from tests.timeline import Timeline
from tests.traces import ROOT

ODD = os.fsdecode(b"n\xff\xe9.json")  # a name that is no UTF-8
SHOWN = r"n\xff\xe9.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a trace, under two names."""
    timeline = Timeline()
    for _ in range(4):
        with timeline.step():
            timeline.op("aten::mm", kernel=500)
    made = tmp_path_factory.mktemp("streams")
    for name in ("a.json", ODD):
        (made / name).write_text(json.dumps(timeline.json()))
    return made


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command line as a shell runs it; DOCTOR in it is ours."""
    text = command.replace("DOCTOR", f"{sys.executable} -m mfu_doctor")
    environ = os.environ | {"PYTHONPATH": str(ROOT), "ODD": ODD}
    return subprocess.run(
        ["bash", "-c", text], cwd=folder, env=environ, capture_output=True, text=True, timeout=LONGEST_S
    )


REFUSED = {
    "DOCTOR report a.json >&-": "standard output is closed",
    "DOCTOR report a.json > /dev/full": "standard output cannot be written (No space left on device)",
    "DOCTOR check a.json > /dev/full": "standard output cannot be written (No space left on device)",
    "DOCTOR --version > /dev/full": "a standard stream cannot be used (No space left on device)",
    "DOCTOR report - <&-": "standard input is closed",
    "DOCTOR report nothing.json 2> /dev/full": "",
    "DOCTOR report nothing.json >&- 2>&- <&-": "",
    "DOCTOR report a.json --format html -o .": "cannot be written (Is a directory)",
    "DOCTOR compare a.json a.json -o missing/a.json": "cannot be written (No such file or directory)",
    "DOCTOR check a.json --format json -o /dev/full": "/dev/full cannot be written (No space left on device)",
    "rm -f pipe; mkfifo pipe; DOCTOR annotate pipe -o b.json": "annotate cannot use a pipe",
    "mkdir -p gone; cd gone; rmdir ../gone; DOCTOR run -m nothing": "no module named nothing can be run",
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(command: str, folder: Path) -> None:
    done = shell(command, folder)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert REFUSED[command] in done.stderr
    assert done.stderr.count("\n") == (1 if REFUSED[command] else 0)


@pytest.mark.parametrize("stderr", ["2>&-", "2> /dev/full"])
def test_a_result_is_not_lost_with_the_notes_about_it(stderr: str, folder: Path) -> None:
    assert shell(f"DOCTOR report a.json {stderr}", folder).stdout.startswith("mfu-doctor ")
    assert shell(f"DOCTOR report a.json -o b.json {stderr}", folder).returncode == 0
    assert (folder / "b.json").stat().st_size


def test_no_file_takes_the_place_of_a_closed_stream(folder: Path) -> None:
    """What a library writes to standard error would go into the output, or into the trace."""
    code = "import os, sys; from mfu_doctor.cli.streams import hold_places; hold_places(); print(os.open('a.json', 0))"
    assert int(shell(f'{sys.executable} -c "{code}" 2>&- <&-', folder).stdout) > 2


def test_a_reader_that_leaves_is_no_traceback(folder: Path) -> None:
    done = shell("DOCTOR report a.json --format html | head -c 1; echo ${PIPESTATUS[0]}", folder)
    assert done.stdout.endswith(("141\n", "0\n"))  # a pipe may hold all of it
    assert done.stderr == ""


@pytest.mark.parametrize("output", ["terminal", "markdown", "json", "html", "notebook"])
def test_a_name_that_is_no_text_is_shown_as_escapes(output: str, folder: Path) -> None:
    done = shell(f'DOCTOR report "$ODD" --format {output} | iconv -f utf8 -t utf8', folder)
    assert done.stderr == ""
    assert SHOWN in done.stdout.replace("\\\\", "\\")  # JSON and markdown escape the backslash once more


def test_a_name_that_is_no_text_goes_through_every_verb(folder: Path) -> None:
    verdict = shell('DOCTOR check "$ODD" --format json', folder)
    assert verdict.returncode == 0, verdict.stderr
    assert json.loads(shell('DOCTOR compare "$ODD" a.json --format json', folder).stdout)["before"] == SHOWN
    assert shell('DOCTOR report "$ODD" -o "out$ODD" && DOCTOR report "out$ODD"', folder).stdout.split()[2] == SHOWN
    assert shell('DOCTOR annotate "$ODD" -o "marked$ODD"', folder).returncode == 0


def test_bytes_and_lone_surrogates_become_escapes_everywhere_in_json() -> None:
    value = {ODD: [ODD, ("\ud800", 1.5, None)], "plain": "\u00e9"}
    assert json.loads(json_bytes(value)) == {SHOWN: [SHOWN, ["\\ud800", 1.5, None]], "plain": "\u00e9"}
    assert readable("plain \u00e9") == "plain \u00e9"


PIPED = {
    "cat a.json > pipe & DOCTOR report pipe": "mfu-doctor ",
    "gzip -c a.json > pipe & DOCTOR report pipe --format json": '"tool": "mfu-doctor"',
    "cat a.json > pipe & DOCTOR check pipe": "mfu-doctor check",
    "cat a.json > pipe & DOCTOR compare pipe a.json": "before  pipe",
    "DOCTOR compare <(cat a.json) <(gzip -c a.json)": "before ",
    "DOCTOR check a.json --baseline <(cat a.json)": "mfu-doctor check",
}


@pytest.mark.parametrize("command", PIPED)
def test_a_trace_is_read_from_a_pipe(command: str, folder: Path) -> None:
    (folder / "pipe").unlink(missing_ok=True)
    done = shell(f"mkfifo pipe; {command}", folder)
    assert done.stderr == ""
    assert PIPED[command] in done.stdout
