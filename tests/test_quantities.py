"""How quantities read: digits, units, ranges, percentages, changes, and the same text for the same quantity everywhere."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfu_doctor import quantities

NS = 1e-9


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.412, "412 ms"),
        (1.2345, "1.23 s"),
        (0.0523, "52.3 ms"),
        (85e-6, "85.0 us"),
        (0.9999, "1.00 s"),
        (999.96e-6, "1.00 ms"),
        (0.0, "0 ms"),
        (0.4 * NS, "0 ms"),
    ],
)
def test_measured_times_have_three_digits(seconds: float, text: str) -> None:
    assert quantities.duration(seconds) == text
    assert quantities.time_of(seconds / NS) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.0741, 0.0879, "74-88 ms"),
        (0.112, 0.1384, "110-140 ms"),
        (0.0331, 0.0334, "33 ms"),
        (0.0067, 0.104, "6.7-100 ms"),
        (0.29e-3, 2.08e-3, "0.29-2.1 ms"),
        (1.24, 3.5, "1.2-3.5 s"),
        (30e-6, 30.4e-6, "30 us"),
        (0.00005, 0.0123, "0.1-12 ms"),
        (0.0, 0.0123, "0-12 ms"),
        (0.000001, 0.0123, "0-12 ms"),
        (0.0, 2.64e-6, "0-2.6 us"),
        (0.0, 100 * NS, "0-100 ns"),
        (0.0, 0.0, "0 ms"),
    ],
)
def test_predicted_ranges_have_two_digits_and_one_unit(low: float, high: float, text: str) -> None:
    assert quantities.duration_range(low, high) == text
    assert quantities.span_of(low / NS, high / NS) == text


@pytest.mark.parametrize(
    ("fraction", "in_table", "in_sentence"),
    [
        (0.2131, "21.3 %", "21 %"),
        (0.0324, "3.2 %", "3.2 %"),
        (0.0996, "10.0 %", "10 %"),
        (0.00517, "0.52 %", "0.52 %"),
        (0.00042, "0.042 %", "0.042 %"),
        (1.9e-7, "<0.01 %", "<0.01 %"),
        (0.0, "0.0 %", "0 %"),
        (1.0, "100.0 %", "100 %"),
    ],
)
def test_shares_in_tables_and_in_sentences(fraction: float, in_table: str, in_sentence: str) -> None:
    assert quantities.percent(fraction) == in_table
    assert quantities.share(fraction, 1.0) == in_sentence


def test_a_share_of_nothing_is_nothing() -> None:
    assert quantities.share(5, 0) == "0 %"


def test_predicted_shares() -> None:
    assert quantities.percent_range(0.381, 0.399) == "38-40 %"
    assert quantities.percent_range(0.38, 0.38) == "38 %"
    assert quantities.percent_range(2.3e-7, 2.7e-7) == "<0.01 %"


@pytest.mark.parametrize(
    ("value", "text"),
    [(9412, "9,412"), (2.5, "2.5"), (2.04, "2"), (150.5, "150"), (0.03, "0.03"), (0, "0"), (-2.5, "-2.5")],
)
def test_counts_and_their_averages(value: float, text: str) -> None:
    assert quantities.number(value) == text


@pytest.mark.parametrize(
    ("value", "noun", "text"),
    [(1, "step", "1 step"), (2, "copy", "2 copies"), (1.02, "launch", "1 launch"), (0, "launch", "0 launches")],
)
def test_one_thing_is_singular(value: float, noun: str, text: str) -> None:
    assert quantities.counted(value, noun) == text


def test_the_first_of_several() -> None:
    """A caution once began "The first 1 judged step"."""
    assert quantities.first_of(1, "judged step") == "first judged step"
    assert quantities.first_of(3, "judged step") == "first 3 judged steps"


def test_rates_share_the_unit_of_the_peak_and_the_peak_keeps_its_digits() -> None:
    assert quantities.flops_of_peak(3.107e14, 989.5e12) == "311 of 989.5 TFLOP/s"
    assert quantities.flops_of_peak(4.44e12, 125e12) == "4.44 of 125 TFLOP/s"
    assert quantities.flops_of_peak(35.3e6, 181e12) == "35.3 MFLOP/s of 181 TFLOP/s"
    assert quantities.flops_of_peak(1.2e15, 1979e12) == "1,200 of 1,979 TFLOP/s"
    assert quantities.peak_rate(100e12) == "100 TFLOP/s"


@pytest.mark.parametrize(("value", "text"), [(1.28e14, "128 TFLOP"), (999.9e9, "1.00 TFLOP"), (500, "500 FLOP")])
def test_a_number_of_operations(value: float, text: str) -> None:
    assert quantities.flop_count(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.4e9, "bytes/s", "12.4 GB/s"),
        (3.35e12, "bytes/s", "3.35 TB/s"),
        (5e5, "bytes/s", "500 kB/s"),
        (487 * 2**20, "bytes", "487 MiB"),
        (512, "bytes", "512 B"),
        (2**30, "bytes per step", "1.00 GiB per step"),
        (9412, "per step", "9,412 per step"),
        (2.5, "per step", "2.5 per step"),
        (9412, "count", "9,412"),
        (1395, "MHz", "1,395 MHz"),
        (0.2131, "share", "21.3 %"),
        (0.412, "s", "412 ms"),
        (3.1e14, "FLOP/s", "310 TFLOP/s"),
        ("NCCL", "", "NCCL"),
        (0.5, "furlongs", "0.500 furlongs"),
    ],
)
def test_evidence_reads_in_units_for_people(value: float | str, unit: str, text: str) -> None:
    """A bandwidth was once printed as 12400000000 bytes/s, and 9,412 launches as 9,410 per step."""
    assert quantities.measure(value, unit) == text


@pytest.mark.parametrize(
    ("value", "limit", "unit", "text"),
    [
        (0.10018, 0.1, "share", "10.02 %"),
        (0.1, 0.1, "share", "10.0 %"),
        (0.3000004, 0.3, "s", "300.0004 ms"),
        (0.16, 0.1, "share", "16.0 %"),
        (3.0, 3.0, "count", "3"),
        (None, 0.1, "share", "unknown"),
    ],
)
def test_a_figure_that_is_not_its_limit_does_not_read_like_it(
    value: float | None, limit: float, unit: str, text: str
) -> None:
    assert quantities.figure_beside(value, limit, unit) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.4476, "s", "447.6 ms"),
        (0.3, "s", "300 ms"),
        (0.0, "s", "0 ms"),
        (0.289, "share", "28.9 %"),
        (150.5, "count", "150.5"),
        (9412, "count", "9,412"),
        (None, "s", "unknown"),
    ],
)
def test_a_figure_beside_its_limit_has_up_to_four_digits(value: float | None, unit: str, text: str) -> None:
    assert quantities.figure(value, unit) == text


@pytest.mark.parametrize(
    ("change", "unit", "text"),
    [
        (0.0861, "s", "+8.6 %"),
        (-0.0001, "s", "+0.0 %"),
        (0.065, "share", "+6.5 points"),
        (-0.00001, "share", "+0.0 points"),
        (1, "count", "+1"),
        (-0.5, "count", "-0.5"),
        (12345, "count", "+12,345"),
        (None, "s", ""),
    ],
)
def test_changes_have_a_sign_and_no_negative_zero(change: float | None, unit: str, text: str) -> None:
    """A change of 12,345 launches was once printed as +1.234e+04."""
    assert quantities.change_of(change, unit) == text


@pytest.mark.parametrize(
    ("spread", "middle", "unit", "text"),
    [
        (0.002, 0.4476, "s", "2.0"),
        (0.0004, 0.0523, "s", "0.40"),
        (0.0031, 1.2, "s", "0.0031"),
        (0.003, 0.289, "share", "0.3"),
    ],
)
def test_a_spread_is_in_the_unit_of_what_it_belongs_to(spread: float, middle: float, unit: str, text: str) -> None:
    assert quantities.spread_of(spread, middle, unit) == text


@given(st.floats(1e-6, 1e18))
def test_no_quantity_is_printed_with_an_exponent_or_without_its_unit(value: float) -> None:
    texts = [quantities.measure(value, unit) for unit in ("share", "bytes", "bytes/s", "FLOP", "FLOP/s", "per step")]
    texts += [quantities.duration(value), quantities.figure(value, "s"), f"{quantities.signed_number(value)} things"]
    assert all(re.fullmatch(r"[<+]?[\d,]*\.?\d+ [A-Za-z%/ ]+", text) for text in texts), texts


@given(st.integers(1, 10**12))
def test_a_time_reads_as_one_to_999_of_its_unit_below_a_thousand_seconds(nanoseconds: int) -> None:
    shown = float(quantities.time_of(nanoseconds).partition(" ")[0].replace(",", ""))
    assert 1 <= shown <= 1000
