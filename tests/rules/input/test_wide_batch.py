"""wide-batch: images as bytes take a quarter of the copy."""

from __future__ import annotations

from mfu_doctor.rules.input.wide_batch import wide_batch
from tests.rules.drawing import MEGABYTE, copying
from tests.rules.judging import close, price_us, run_of, silent

FLOAT = {"dims": [[32, 3, 224, 224], [32, 3, 224, 224]], "types": ["float", "float"]}


def test_images_as_bytes_take_a_quarter_of_the_copy() -> None:
    price = price_us(wide_batch, run_of(copying(2_000, 18 * MEGABYTE, 6_000, **FLOAT)))
    assert price.mid_ns == close(1_500)
    assert price.low_ns == close(1_000)


def test_bytes_and_texts_are_no_finding() -> None:
    pixels = {"dims": [[32, 3, 224, 224]], "types": ["unsigned char"]}
    tokens = {"dims": [[32, 2048]], "types": ["float"]}
    for args in (pixels, tokens):
        silent(wide_batch, run_of(copying(2_000, 18 * MEGABYTE, 6_000, **args)))
