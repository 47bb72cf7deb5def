"""Garbage is looked for seldom where only our own code runs; a program of the user finds what it would find without us."""

from __future__ import annotations

import gc

import pytest

from mfu_doctor.cli.collecting import collect_seldom


@pytest.mark.parametrize(
    ("words", "is_seldom"),
    [(["report", "x.json"], True), (["annotate"], True), (["run", "train.py"], False), (["try"], False), ([], False)],
)
def test_only_verbs_of_our_own_collect_seldom(words: list[str], is_seldom: bool) -> None:
    was = gc.get_threshold()
    gc.set_threshold(700, 10, 10)  # verbs that other tests ran in this process have left theirs
    before = gc.get_threshold()
    try:
        collect_seldom(words)
        assert (gc.get_threshold()[0] > before[0]) == is_seldom
        assert is_seldom or gc.get_threshold() == before
    finally:
        gc.set_threshold(*was)
