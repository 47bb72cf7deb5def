"""What brings nothing is left out where only our own code runs; a program of the user finds what it would find without us."""

from __future__ import annotations

import atexit
import gc
import os
import sys

import pytest

from mfu_doctor.cli.sparing import spare


@pytest.mark.parametrize(
    ("words", "is_ours"),
    [(["report", "x.json"], True), (["annotate"], True), (["run", "train.py"], False), (["try"], False), ([], False)],
)
def test_only_verbs_of_our_own_spare_what_brings_nothing(
    words: list[str], is_ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_end: list[object] = []
    monkeypatch.setattr(atexit, "register", at_end.append)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))  # nothing of this is left behind
    monkeypatch.delitem(sys.modules, "numpy", raising=False)  # as in a process that begins
    was = gc.get_threshold()
    gc.set_threshold(700, 10, 10)  # verbs that other tests ran in this process have left theirs
    before = gc.get_threshold()
    try:
        spare(words)
        assert (gc.get_threshold()[0] > before[0]) == is_ours
        assert is_ours or gc.get_threshold() == before
    finally:
        gc.set_threshold(*was)
    assert at_end == [gc.freeze] * is_ours
    assert ("OPENBLAS_NUM_THREADS" in os.environ) == is_ours


def test_what_the_user_says_of_threads_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atexit, "register", lambda function: None)
    monkeypatch.setattr(gc, "set_threshold", lambda count: None)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    spare(["report"])
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"


def test_the_environment_of_a_process_that_has_numpy_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's process, in which a verb is called: numpy has read it already."""
    monkeypatch.setattr(atexit, "register", lambda _: None)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setitem(sys.modules, "numpy", sys)
    was = gc.get_threshold()
    try:
        spare(["report", "x.json"])
    finally:
        gc.set_threshold(*was)
    assert "OPENBLAS_NUM_THREADS" not in os.environ
