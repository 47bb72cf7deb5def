"""How the amount of a saving is known: what each mark means, and what makes a range one that only trying can tell."""

from __future__ import annotations

import pytest

from mfu_doctor.render.words.labels import fix_tags
from mfu_doctor.render.words.wording import time_saved
from mfu_doctor.result.findings import FAILED, GUESSED, MEASURED, MODELLED, SURE, Diagnosis, Saving, result_words


def found(confidence: str, low: float, high: float) -> Diagnosis:
    saving = Saving(low=low, mid=(low + high) / 2, high=high)
    return Diagnosis(rule="host-bound", code="HO001", status=FAILED, confidence=confidence, saving=saving)


@pytest.mark.parametrize(
    ("confidence", "low", "high", "mark"),
    [
        ("measured", 1.0, 1.0, MEASURED),
        ("measured", 1.0, 1.2, MEASURED),
        ("measured", 1.0, 2.0, MODELLED),  # something decides that this run does not show
        ("measured", 1.0, 3.0, GUESSED),
        ("modelled", 1.0, 1.0, MODELLED),
        ("modelled", 1.0, 4.0, GUESSED),  # "5.7-67 ms" was called medium
        ("modelled", 0.0, 4.0, GUESSED),
        ("hint", 1.0, 1.0, GUESSED),
    ],
)
def test_a_mark_says_how_a_saving_is_known(confidence: str, low: float, high: float, mark: str) -> None:
    assert found(confidence, low, high).sure == mark
    assert f"{mark}: {SURE[mark]}" in fix_tags(found(confidence, low, high))


def test_a_finding_without_a_saving_has_no_mark() -> None:
    """exposed-communication without known sizes said "high (all that goes was measured)", and predicted nothing."""
    unpriced = Diagnosis(
        rule="exposed-communication", code="CO001", status=FAILED, confidence="measured", effort="line"
    )
    assert not any(tag.startswith(tuple(SURE)) for tag in fix_tags(unpriced))


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        ((48, 48, 48), "1.4x, modelled"),
        ((40, 48, 100), "about 1.4x, modelled"),
        ((10, 48, 100), "modelled"),  # ends so far apart that the factor between them says nothing
        ((3, 3, 3), "modelled"),  # 1.02 times as fast
        ((176, 176, 176), "modelled"),  # no step is left
    ],
)
def test_a_saving_is_told_with_what_becomes_of_the_step(ms: tuple[float, float, float], words: str) -> None:
    low, mid, high = (value / 1000 for value in ms)
    assert result_words(Saving(low=low, mid=mid, high=high), 0.176, MODELLED) == words


def test_a_saving_whose_fix_leaves_open_how_much_goes_is_a_bound() -> None:
    """ "220 of 383 ms can be saved": all of a wait, by "make it cheaper, or move it"."""
    bound = Saving(low=0.22, mid=0.22, high=0.22, at_best=True)
    assert time_saved(bound) == "up to 220 ms"
    assert not bound.is_wide  # it has no range that anything decides within
    assert result_words(bound, 0.383, GUESSED) == "up to 2.3x, guessed"
    known = Diagnosis(rule="a", code="HO001", status=FAILED, confidence="measured", saving=bound)
    assert known.sure == MODELLED
    assert time_saved(Saving(low=0.05, mid=0.1, high=0.22, at_best=True)) == "about 100 ms (50-220)"
    # "up to 3 ms (3-3.7)" would contradict itself
    assert time_saved(Saving(low=0.003, mid=0.003, high=0.0037, at_best=True)) == "about 3.0 ms (3.0-3.7)"


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        ((15, 17, 17.6), "up to 17 ms"),  # "up to 17 ms (15-18)" was below what stood beside it
        ((53, 54, 54), "up to 54 ms"),  # a range of 53 to 54 decides nothing
        ((12, 21, 22), "up to 21 ms (12-21)"),
    ],
)
def test_up_to_is_the_highest_figure_that_is_told(ms: tuple[float, float, float], words: str) -> None:
    low, mid, high = (value / 1000 for value in ms)
    assert time_saved(Saving(low=low, mid=mid, high=high, at_best=True)) == words
