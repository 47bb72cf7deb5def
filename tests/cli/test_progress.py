"""That a command is at work is said on a terminal only: one line after a while, or the number of ranks that are read."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest

from mfu_doctor.cli import progress
from mfu_doctor.cli.progress import count_ranks, watched


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def reconfigure(self, **options: str) -> None:
        """As the stream of a real terminal."""


def test_ranks_are_counted_in_one_line_that_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    for done in (1, 2):
        count_ranks(done, 2)
    assert screen.getvalue() == "\rread 1 of 2 ranks\rread 2 of 2 ranks\n"


def test_nothing_is_written_into_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    count_ranks(1, 2)
    with watched(["run.json"]):
        pass
    assert file.getvalue() == ""


def test_no_thread_runs_while_ranks_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Processes for ranks are copies of this one: a thread that holds a lock would leave it locked in them."""
    monkeypatch.setattr("sys.stderr", Terminal())
    before = set(threading.enumerate())
    with watched([str(tmp_path)]):
        assert set(threading.enumerate()) <= before
    with watched(["run.json"]):
        assert len(set(threading.enumerate()) - before) == 1


def test_a_long_wait_for_one_file_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(progress, "PROGRESS_AFTER_S", 0.0)
    with watched(["run.json"]):
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join()
    assert screen.getvalue() == "reading run.json ...\n"
