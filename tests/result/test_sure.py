"""How the amount of a saving is known: what each mark means, and what makes a range one that only trying can tell."""

from __future__ import annotations

import pytest

from mfu_doctor.render.words.labels import fix_tags
from mfu_doctor.result.findings import FAILED, GUESSED, MEASURED, MODELLED, SURE, Diagnosis, Saving


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
