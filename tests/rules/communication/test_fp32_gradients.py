"""fp32-gradients: half of the bytes take a little more than half of the time."""

from __future__ import annotations

from mfu_doctor.rules.communication.fp32_gradients import fp32_gradients
from tests.rules.drawing import MILLION, communicating
from tests.rules.judging import close, price_us, run_of, silent


def test_half_of_the_bytes_take_a_little_more_than_half_of_the_time() -> None:
    price = price_us(fp32_gradients, run_of(communicating((8 * MILLION, 2_000))))
    assert price.mid_ns == close(0.45 * 2_000)
    assert price.high_ns == close(0.5 * 2_000)
    silent(fp32_gradients, run_of(communicating((1024, 50))))
