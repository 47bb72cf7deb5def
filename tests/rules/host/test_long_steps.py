"""long-steps: a step that stops for other work is priced per recorded step."""

from __future__ import annotations

from mfu_doctor.rules.host.long_steps import long_steps
from tests.rules.drawing import compute
from tests.rules.judging import close, price_us, run_of, silent
from tests.timeline import Timeline


def saving(pause: int) -> Timeline:
    drawn = Timeline()
    for step in range(12):
        with drawn.step():
            compute(drawn, 1_000)
            drawn.sync()
            if step == 6:
                drawn.python(pause)
    return drawn


def test_a_step_that_writes_a_checkpoint_is_priced_per_recorded_step() -> None:
    price = price_us(long_steps, run_of(saving(20_000)))
    assert price.mid_ns == close(20_000 / 10)


def test_equal_steps_are_not_long() -> None:
    silent(long_steps, run_of(saving(0)))
