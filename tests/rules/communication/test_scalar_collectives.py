"""scalar-collectives: single numbers and small buffers are priced; gradients are not its matter."""

from __future__ import annotations

from mfu_doctor.rules.communication.scalar_collectives import scalar_collectives
from tests.rules.drawing import MILLION, communicating
from tests.rules.judging import close, found, price_us, run_of, silent


def test_reducing_a_metric_in_each_step_is_priced() -> None:
    run = run_of(communicating((1, 300)))
    assert price_us(scalar_collectives, run).mid_ns == close(300)
    assert "broadcast_buffers" in found(scalar_collectives, run_of(communicating((16, 30), kind="broadcast"))).fix
    without = run_of(communicating((16, 30), kind="broadcast", within="train"))
    assert "torch.distributed.broadcast(values" in found(scalar_collectives, without).fix
    silent(scalar_collectives, run_of(communicating((MILLION, 300))))


def test_sizes_that_an_all_to_all_exchanges_first_are_needed_in_each_step() -> None:
    drawn = communicating((48, 300))
    for event in drawn.events:
        if "Collective name" in event["args"]:
            event["args"]["Collective name"] = "all_to_all"
    silent(scalar_collectives, run_of(drawn))
