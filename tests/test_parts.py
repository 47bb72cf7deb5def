"""What is saved of a step and what is left of it: a reader who subtracts gets the figures that are printed."""

from __future__ import annotations

import pytest

from mfu_doctor.quantities import parts


@pytest.mark.parametrize(
    ("part", "whole", "alone", "of"),
    [
        (
            0.1234,
            0.1802,
            "123 ms",
            "123 of 180 ms",
        ),  # "120 of 180 ms" left 60 for a reader, and the step was told as 57 ms
        (0.0574, 0.1762, "57 ms", "57 of 176 ms"),
        (0.0096, 0.0771, "9.6 ms", "9.6 of 77.1 ms"),
        (0.0013, 0.1802, "1.3 ms", "1.3 of 180 ms"),  # finer than the step: that does no harm
        (0.0212, 0.0244, "21.2 ms", "21.2 of 24.4 ms"),
        (0.35, 1.23, "350 ms", "0.35 of 1.23 s"),
        (0.0, 0.18, "0 ms", "0 of 180 ms"),
    ],
)
def test_a_part_has_as_many_decimals_as_its_whole(part: float, whole: float, alone: str, of: str) -> None:
    assert parts.part_alone(part, whole) == alone
    assert parts.part_of(part, whole) == of


def test_what_is_left_is_calculated_from_the_figures_that_are_told() -> None:
    """180.4 - 123.6 - 21.4 is 35.4, but who reads 180, 124 and 21 gets 35; and 180 of 35 is 5.14."""
    left = parts.left_of(0.1804, [0.1236, 0.0214])
    assert parts.part_alone(left, 0.1804) == "35 ms"
    assert left == pytest.approx(0.035)
    assert parts.times_as_fast(0.1804, left) == pytest.approx(180 / 35)


def test_a_range_is_told_where_its_ends_read_differently() -> None:
    assert parts.estimate((0.0121, 0.0212), 0.0212, 0.0244, about="up to") == "up to 21.2 ms (12.1-21.2)"
    assert parts.estimate((0.0061, 0.0139), 0.0139, 0.0218, about="up to") == "up to 13.9 ms (6.1-13.9)"
    assert parts.estimate((0.0002, 0.0021), 0.0009, 0.02, about="about") == "about 900 us (0.20-2.1 ms)"
    assert parts.estimate((0.0301, 0.0302), 0.0302, 0.18, about="about") == "about 30 ms"
    assert parts.estimate(None, 0.0302, 0.18, about="") == "30 ms"
