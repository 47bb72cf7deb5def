"""misaligned-matmul: an odd size is priced padded, at the efficiency of the aligned products."""

from __future__ import annotations

from mfu_doctor.rules.kernels.misaligned_matmul import misaligned_matmul
from tests.rules.drawing import BF16_PEAK, products
from tests.rules.judging import close, found, price_us, run_of, silent


def test_an_odd_size_is_priced_padded_at_the_efficiency_of_aligned_products() -> None:
    run = run_of(products(4097, 4096, 4096, 3_000, also=True))
    padded = 2 * 4104 * 4096 * 4096 / BF16_PEAK / 0.6 * 1e6
    price = price_us(misaligned_matmul, run)
    assert price.mid_ns == close(3_000 - padded)
    assert price.low_ns == close((3_000 - padded) / 2)
    assert found(misaligned_matmul, run).fix == "# pad 4097 x 4096 x 4096 to 4104 x 4096 x 4096"


def test_aligned_products_are_no_finding() -> None:
    silent(misaligned_matmul, run_of(products(4096, 4096, 4096, 900)))
