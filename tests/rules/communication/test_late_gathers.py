"""late-gathers: exposed all-gathers are priced; other collectives are not its matter."""

from __future__ import annotations

from mfu_doctor.rules.communication.late_gathers import late_gathers
from mfu_doctor.rules.contract import Skip
from tests.rules.drawing import MILLION, communicating
from tests.rules.judging import close, found, price_us, run_of, silent


def test_gathers_that_a_layer_waits_for_are_priced_at_their_exposed_time() -> None:
    gathering = communicating((MILLION, 1_000), kind="allgather", within="FSDP::pre_forward")
    price = price_us(late_gathers, run_of(gathering))
    assert "set_modules_to_forward_prefetch" in found(late_gathers, run_of(gathering)).fix
    assert price.low_ns == close(500)
    assert price.high_ns == close(1_000)
    silent(late_gathers, run_of(communicating((MILLION, 1_000))))


def test_gathers_of_no_known_framework_need_not_be_parameters() -> None:
    drawn = communicating((MILLION, 1_000), kind="allgather", within="train")
    assert isinstance(late_gathers.judge(run_of(drawn)), Skip)
