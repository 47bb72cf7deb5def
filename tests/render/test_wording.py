"""Texts as people read them: columns that sum, cleaning, shortening and wrapping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfu_doctor.render.words import columns
from mfu_doctor.render.words.text import cells, clean, each_text, kernel_name, shorten, to_ascii, wrap
from mfu_doctor.result.findings import Diagnosis


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


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9))
def test_apportioned_shares_always_sum_exactly(values: list[float]) -> None:
    parts = columns.apportion(values, 1000)
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
