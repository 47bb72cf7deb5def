"""The bounds of an input as CONTRIBUTING.md states them: what is beyond is refused in one sentence, cut or left out."""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path

import pytest

from mfu_doctor.analysis.replay.latest import MOST_STREAMS
from mfu_doctor.analysis.views.nesting import DEEPEST
from mfu_doctor.analysis.views.steps import MOST_STEPS
from mfu_doctor.errors import NotATraceError
from mfu_doctor.reading import chunks, read_trace, source, tracks
from mfu_doctor.reading.codes import LONGEST_NAME
from tests.fuzz.command import LONGEST_ERROR, run
from tests.fuzz.crafted import op, steps, trace
from tests.fuzz.judge import HELD_MB, MB_PER_MB, SECONDS, SECONDS_PER_MB
from tests.traces import ROOT

_MEGA = 1 << 20


def row_of(bound: str) -> str:
    """The line of the table on this bound."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(rf"^\| {re.escape(bound)} \|.*$", text, re.MULTILINE)
    assert found is not None, f"no bound on {bound}"
    return found.group()


@pytest.mark.parametrize(
    ("bound", "values"),
    [
        ("processor time", (f"{SECONDS:g} s", f"{SECONDS_PER_MB:g} s for each MB")),
        ("memory", (f"{HELD_MB:g} MB", f"{MB_PER_MB:g} MB for each MB")),
        ("error", (f"{LONGEST_ERROR:,} characters",)),
        ("steps", (f"{MOST_STEPS:,}",)),
        ("threads and streams", (f"{tracks._MAX_TRACKS:,}",)),
        ("gzip", (f"{source.MAX_EXPANSION} times",)),
        ("event", (f"{chunks._LONGEST_EVENT // _MEGA} MB",)),
        ("name", (f"{LONGEST_NAME:,} characters",)),
        ("operators in each other", (f"{DEEPEST}",)),
        ("streams that one wait is for", (f"{MOST_STREAMS}",)),
    ],
)
def test_a_bound_is_stated_as_it_is(bound: str, values: tuple[str, ...]) -> None:
    assert all(value in row_of(bound) for value in values), row_of(bound)


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    done = run("report", str(path))
    assert done.code == 2
    assert not done.fault
    return done.err


def test_more_threads_are_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracks, "_MAX_TRACKS", 50)
    crowd = trace([op(10 * i, tid=i) for i in range(60)])
    assert "more than 50 threads and streams: keep only the events of one process" in refused(
        tmp_path / "tracks.json", crowd
    )


def test_a_file_that_grows_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_BOMB_CHECK_FROM", _MEGA)
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(trace(steps())[:-2] + b"," + b" " * (6 * _MEGA) + b"]}", 1))
    with pytest.raises(NotATraceError, match=f"expands more than {source.MAX_EXPANSION} times"):
        read_trace(path)


def test_what_goes_on_without_an_event_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The events before it are told, and that the file is damaged."""
    monkeypatch.setattr(chunks, "_LONGEST_EVENT", _MEGA)
    found = read_trace(io.BytesIO(trace(steps())[:-2] + b',{"ph":"X","name":"' + b"x" * (6 * _MEGA)))
    assert len(found.events) == 4
    assert found.problems
