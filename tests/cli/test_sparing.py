"""What brings nothing is left out where only our own code runs; a program of the user finds what it would find without us."""

from __future__ import annotations

import atexit
import gc
import os
import sys

import pytest

from mfu_doctor.cli.sparing import spare

_FOR_NUMPY = ("OPENBLAS_NUM_THREADS", "NUMPY_MADVISE_HUGEPAGE")


@pytest.mark.parametrize(
    ("words", "is_ours"),
    [(["report", "x.json"], True), (["annotate"], True), (["run", "train.py"], False), (["try"], False), ([], False)],
)
def test_only_verbs_of_our_own_spare_what_brings_nothing(
    words: list[str], is_ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_end: list[object] = []
    monkeypatch.setattr(atexit, "register", at_end.append)
    for variable in _FOR_NUMPY:
        monkeypatch.delenv(variable, raising=False)
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
    assert [variable in os.environ for variable in _FOR_NUMPY] == [is_ours] * len(_FOR_NUMPY)


@pytest.mark.parametrize("variable", _FOR_NUMPY)
def test_what_the_user_says_to_numpy_stands(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atexit, "register", lambda function: None)
    monkeypatch.setattr(gc, "set_threshold", lambda count: None)
    monkeypatch.setattr(os, "environ", {**os.environ, variable: "3"})
    monkeypatch.delitem(sys.modules, "numpy", raising=False)
    spare(["report"])
    assert os.environ[variable] == "3"


def test_the_environment_of_a_process_that_has_numpy_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's process, in which a verb is called: numpy has read it already."""
    monkeypatch.setattr(atexit, "register", lambda _: None)
    for variable in _FOR_NUMPY:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setitem(sys.modules, "numpy", sys)
    was = gc.get_threshold()
    try:
        spare(["report", "x.json"])
    finally:
        gc.set_threshold(*was)
    assert not os.environ.keys() & _FOR_NUMPY
