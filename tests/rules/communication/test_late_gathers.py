"""late-gathers: exposed all-gathers are priced; other collectives are not its matter."""

from __future__ import annotations

from mfu_doctor.rules.communication.late_gathers import late_gathers
from tests.rules.drawing import MILLION, communicating
from tests.rules.judging import close, price_us, run_of, silent


def test_gathers_that_a_layer_waits_for_are_priced_at_their_exposed_time() -> None:
    price = price_us(late_gathers, run_of(communicating((MILLION, 1_000), kind="allgather")))
    assert price.low_ns == close(500)
    assert price.high_ns == close(1_000)
    silent(late_gathers, run_of(communicating((MILLION, 1_000))))
