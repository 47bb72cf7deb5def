"""Numbers and texts as people read them: digits, units, ranges, cleaning, shortening and wrapping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfu_doctor.render.words import numbers
from mfu_doctor.render.words.text import cells, clean, each_text, kernel_name, shorten, to_ascii, wrap
from mfu_doctor.result.report import Diagnosis


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.412, "412 ms"), (1.2345, "1.23 s"), (0.0523, "52.3 ms"), (85e-6, "85.0 us"), (0.9999, "1.00 s"), (0.0, "0 ms")],
)
def test_measured_times_have_three_digits(seconds: float, text: str) -> None:
    assert numbers.duration(seconds) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.0741, 0.0879, "74-88 ms"),
        (0.112, 0.1384, "110-140 ms"),
        (0.0331, 0.0334, "33 ms"),
        (0.0, 0.0123, "0-12 ms"),
        (0.0, 0.0, "0.0 ms"),
        (0.00005, 0.0123, "0.1-12 ms"),
    ],
)
def test_predicted_ranges_have_two_digits_and_one_unit(low: float, high: float, text: str) -> None:
    assert numbers.duration_range(low, high) == text


def test_rates_share_the_unit_of_the_peak_and_the_peak_keeps_its_digits() -> None:
    assert numbers.flops_of_peak(3.107e14, 989.5e12) == "311 of 989.5 TFLOP/s"
    assert numbers.flops_of_peak(4.44e12, 125e12) == "4.44 of 125 TFLOP/s"
    assert numbers.flops(1.28e14) == "128 TFLOP"


def test_tiny_shares_and_rates_do_not_print_strings_of_zeros() -> None:
    assert numbers.percent(1.9e-7) == "<0.01 %"
    assert numbers.percent_range(2.3e-7, 2.7e-7) == "<0.01 %"
    assert numbers.flops_of_peak(35.3e6, 181e12) == "35.3 MFLOP/s of 181 TFLOP/s"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.4e9, "bytes/s", "12.4 GB/s"),
        (3.35e12, "bytes/s", "3.35 TB/s"),
        (5e5, "bytes/s", "500 kB/s"),
        (487 * 2**20, "bytes", "487 MiB"),
        (2**30, "bytes per step", "1.00 GiB per step"),
        (483, "per step", "483 per step"),
    ],
)
def test_evidence_reads_in_units_for_people(value: float, unit: str, text: str) -> None:
    """A bandwidth was once printed as 12400000000 bytes/s."""
    assert numbers.measure(value, unit) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("void cudnn::detail::dgrad_engine<float, 512, 6>(int, int)", "dgrad_engine<float,512,6>"),
        ("volta_sgemm_64x64_nt", "volta_sgemm_64x64_nt"),
        ("Memcpy HtoD (Pageable -> Device)", "Memcpy HtoD (Pageable -> Device)"),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::f()::{lambda(float)#1}, at::Array<char*, 2> >(int)",
            "vectorized_elementwise_kernel<4,f()::{lambda(floa...",
        ),
    ],
)
def test_a_kernel_keeps_its_own_name(name: str, text: str) -> None:
    assert kernel_name(name, 52) == text


def test_changes_never_print_a_negative_zero() -> None:
    assert numbers.signed_percent(-0.0001) == "+0.0 %"
    assert numbers.points(-0.00001) == "+0.0 points"


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9))
def test_apportioned_shares_always_sum_exactly(values: list[float]) -> None:
    parts = numbers.apportion(values, 1000)
    assert sum(parts) == (1000 if sum(values) > 0 else 0)
    assert all(part >= 0 for part in parts)


@given(st.text(max_size=60))
def test_cleaned_text_is_one_printable_line(text: str) -> None:
    cleaned = clean(text)
    assert "\n" not in cleaned
    assert "\x1b" not in cleaned
    assert to_ascii(cleaned).isascii()
    assert not cleaned.lstrip().startswith("::")


@given(st.text(max_size=200).map(clean), st.integers(8, 80))
def test_wrapped_lines_fit_and_keep_every_word(text: str, width: int) -> None:
    rows = wrap(text, width)
    assert all(cells(row) <= width for row in rows)
    assert "".join("".join(rows).split()) == "".join(text.split())


@given(st.text(max_size=200).map(clean), st.integers(8, 40), st.booleans())
def test_shortened_text_fits(text: str, width: int, middle: bool) -> None:
    assert cells(shorten(text, width, middle=middle)) <= width


def test_escape_sequences_disappear_whole() -> None:
    assert clean("a\x1b[31;1mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07 \x9b2Jb") == "ared link b"


def test_code_to_paste_keeps_its_lines_and_its_indentation() -> None:
    found = Diagnosis(rule="r", code="XX001", status="failed", fix="if x:\n    y = 1\x1b[0m\n\nz\tw")
    assert each_text(found, clean).fix == "if x:\n    y = 1\nz w"
