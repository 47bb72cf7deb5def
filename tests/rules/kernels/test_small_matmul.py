"""small-matmul: a product of few blocks is priced by the products that fill the device."""

from __future__ import annotations

from mfu_doctor.rules.kernels.small_matmul import small_matmul
from tests.rules.drawing import BF16_PEAK, products
from tests.rules.judging import close, price_us, run_of, silent


def test_a_product_of_few_blocks_is_priced_by_the_larger_ones() -> None:
    # 512 x 512 x 8192 on 16 of 108 multiprocessors
    ideal = 2 * 512 * 512 * 8192 / BF16_PEAK / 0.6 * 1e6
    price = price_us(small_matmul, run_of(products(512, 512, 8192, 400, grid=[4, 4, 1], also=True)))
    assert price.high_ns == close(400 - ideal)
    assert price.mid_ns == close((400 - ideal) / 2)


def test_a_product_that_fills_the_device_is_no_finding() -> None:
    silent(small_matmul, run_of(products(4096, 4096, 4096, 900)))
