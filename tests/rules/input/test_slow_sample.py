"""slow-sample: slow batches are priced by what they take above the others; one is no pattern."""

from __future__ import annotations

from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.input.slow_sample import slow_sample
from tests.rules.drawing import WORKERS, compute, steps
from tests.rules.judging import close, price_us, run_of, silent
from tests.timeline import Timeline


def uneven(slow: int, at: tuple[int, ...]) -> Timeline:
    drawn = Timeline()
    for step in range(12):
        with drawn.step():
            drawn.fetch(slow if step in at else 500, WORKERS)
            compute(drawn, 2_000)
            drawn.sync()
    return drawn


def test_slow_batches_are_priced_by_what_they_take_above_the_others() -> None:
    price = price_us(slow_sample, run_of(uneven(10_500, (5, 9))))
    assert price.mid_ns == close(2 * 10_000 / 10)
    assert price.low_ns == close(2 * 5_000 / 10)


def test_a_single_slow_batch_is_no_pattern() -> None:
    silent(slow_sample, run_of(uneven(10_500, (5,))))


def test_even_batches_are_no_finding_and_few_are_not_judged() -> None:
    silent(slow_sample, run_of(uneven(700, (5,))))
    assert isinstance(slow_sample.judge(run_of(few_steps(2))), Skip)


def few_steps(count: int) -> Timeline:
    return steps(lambda drawn: compute(drawn, 100), count + 2)
