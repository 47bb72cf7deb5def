"""Numbers inside sentences: two digits for predictions, one unit per range, and nothing is "0-0 ms"."""

from __future__ import annotations

import pytest

from mfu_doctor.quantities import counted, first_of, span_of


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (74.2e6, 88.4e6, "74-88 ms"),
        (0.0, 0.0, "0.0 ms"),
        (30e3, 30.4e3, "30 us"),
        (6.7e6, 104e6, "6.7-100 ms"),
        (0.29e6, 2.08e6, "0.29-2.1 ms"),
        (0.0, 2.64e3, "0.0-2.6 us"),
        (1.24e9, 3.5e9, "1.2-3.5 s"),
        (0.0, 100.0, "0.0 ms"),
    ],
)
def test_a_range_of_savings(low: float, high: float, text: str) -> None:
    assert span_of(low, high) == text


@pytest.mark.parametrize(
    ("value", "noun", "text"),
    [(1, "step", "1 step"), (2, "copy", "2 copies"), (1.02, "launch", "1 launch"), (0, "launch", "0 launches")],
)
def test_one_thing_is_singular(value: float, noun: str, text: str) -> None:
    assert counted(value, noun) == text


def test_the_first_of_several() -> None:
    """A caution once began "The first 1 judged step"."""
    assert first_of(1, "judged step") == "first judged step"
    assert first_of(3, "judged step") == "first 3 judged steps"
