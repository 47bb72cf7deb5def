"""The change that a fix asks for: its place first, as linters say it, then words or code that nothing cuts."""

from __future__ import annotations

import pytest

from mfu_doctor.render.words.change import change_rows
from mfu_doctor.render.words.text import whole_parts


@pytest.mark.parametrize(
    ("fix", "row"),
    [
        ("# move validate() at train.py:38 out of the training step", "move validate() out of the training step"),
        ("# train.py:38 numpy.load(): read it once", "numpy.load(): read it once"),
        ("# move train.py:38 out of the training step", "move this line out of the training step"),
        ("# train.py:38: less often, on less data", "less often, on less data"),
        ("# fewer blocks", "fewer blocks"),
        ("y = torch.stack(xs)", "y = torch.stack(xs)"),
    ],
)
def test_the_place_stands_before_the_change_and_only_there(fix: str, row: str) -> None:
    assert change_rows(fix, "train.py:38", 76) == [f"train.py:38  {row}"]


def test_without_a_place_the_change_stands_alone() -> None:
    assert change_rows("# fewer blocks", None, 76) == ["fewer blocks"]
    assert change_rows("x = 1", "", 76) == ["x = 1"]


def test_code_that_does_not_fit_beside_its_place_stands_below_it_and_is_whole() -> None:
    fix = "DataLoader(..., num_workers=2, pin_memory=True, persistent_workers=True)"
    assert change_rows(fix, "train.py:38", 76) == ["train.py:38", fix]
    both = change_rows("a = 1\nb = 2", "train.py:38", 76)
    assert both == ["train.py:38", "a = 1", "b = 2"]


def test_a_long_place_keeps_its_file_and_line() -> None:
    place = "transformers/models/videomae/image_processing_videomae.py:178"
    assert change_rows("x = 1", place, 76) == [f"{place}  x = 1"]
    assert change_rows("# move it", place, 76) == [place, "  move it"]
    assert change_rows("# move it", place, 50) == [".../videomae/image_processing_videomae.py:178", "  move it"]
    assert change_rows("# move it", place, 40)[0].startswith(".../image_processing_videomae.py:178")


def test_words_are_wrapped_and_code_is_not() -> None:
    rows = change_rows("# " + "word " * 40, "train.py:38", 60, lines=4)
    assert len(rows) == 2
    assert all(len(row) <= 60 for row in rows)


def test_a_sentence_is_left_out_rather_than_cut() -> None:
    assert whole_parts("one two; three four", 10, 1) == "one two"
    assert whole_parts("one two; three four", 20, 1) == "one two; three four"
    assert whole_parts("a single one that is too long", 10, 1) == "a single one that is too long"
