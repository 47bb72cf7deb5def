"""Numbers inside sentences: two digits for predictions, one unit per range, and nothing is "0-0 ms"."""

from __future__ import annotations

import pytest

from mfu_doctor.phrasing import span_of


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
