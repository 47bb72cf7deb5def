"""sync-every-microbatch: of equal reductions one a step is needed."""

from __future__ import annotations

import pytest

from mfu_doctor.rules.communication.sync_every_microbatch import sync_every_microbatch
from tests.rules.drawing import MILLION, collective, compute, steps, wait_for_collectives
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def accumulating(rounds: list[list[int]], *, within: str = "DistributedDataParallel.forward") -> Timeline:
    def body(drawn: Timeline) -> None:
        with drawn.span(within):
            drawn.python(1)
        for sizes in rounds:
            drawn.fetch(10)
            compute(drawn, 1_000)
            for size in sizes:
                collective(drawn, 400, size=size)
            wait_for_collectives(drawn, 20)

    return steps(body)


def test_equal_reductions_after_each_of_three_micro_batches_are_two_too_many() -> None:
    run = run_of(accumulating([[MILLION, 2 * MILLION]] * 3))
    assert price_us(sync_every_microbatch, run).mid_ns == close(2 * 2 * 400)
    assert "no_sync" in found(sync_every_microbatch, run).fix


def test_reducing_once_a_step_is_no_finding() -> None:
    silent(sync_every_microbatch, run_of(accumulating([[], [], [MILLION, 2 * MILLION]])))


@pytest.mark.parametrize(
    ("within", "fix"),
    [
        ("FSDP::pre_forward", "set_requires_gradient_sync"),
        ("nn.Module: DeepSpeedEngine_0", "gradient_accumulation_steps"),
        ("train", "# reduce the gradients only after the last"),
    ],
)
def test_each_framework_has_its_own_way(within: str, fix: str) -> None:
    drawn = accumulating([[MILLION, 2 * MILLION]] * 3, within=within)
    assert fix in found(sync_every_microbatch, run_of(drawn)).fix
