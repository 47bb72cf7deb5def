"""slow-sample: slow batches are priced by what they take above the others; one is no pattern."""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import Facts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.input.slow_sample import slow_sample
from tests.rules.drawing import WORKERS, compute, steps
from tests.rules.judging import close, found, price_us, run_of, silent
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


def test_one_of_four_recorded_batches_is_a_pattern_if_timed_steps_were_as_long() -> None:
    """What mfu-doctor run records by default is four analysed steps."""
    drawn = Timeline(device=None)
    for step in range(5):
        with drawn.step():
            drawn.fetch(10_500 if step == 3 else 500, WORKERS)
            drawn.op("aten::mm", host=2_000)
    usual, slow = 0.0025, 0.0125
    alone = Run(replace(drawn.trace(), facts=Facts(timed_steps_s=(usual,) * 20)))
    silent(slow_sample, alone)
    again = Run(replace(drawn.trace(), facts=Facts(timed_steps_s=(usual, usual, slow, usual) * 5)))
    assert found(slow_sample, again).summary.startswith("1 of 4 batches")


def test_even_batches_are_no_finding_and_few_are_not_judged() -> None:
    silent(slow_sample, run_of(uneven(700, (5,))))
    assert isinstance(slow_sample.judge(run_of(few_steps(1))), Skip)


def few_steps(count: int) -> Timeline:
    return steps(lambda drawn: compute(drawn, 100), count + 2)


def test_a_slow_batch_in_fifty_is_found_in_the_steps_after_the_recording() -> None:
    """Four recorded steps rarely hold one; a thousand timed ones do."""
    waits = (0.0004,) * 49 + (0.2,)
    later = {"timed_waits_s": waits * 20, "timed_steps_s": tuple(w + 0.004 for w in waits) * 20}
    told = found(slow_sample, run_of(uneven(500, ()), **later))
    assert told.summary == "20 steps of 1,000 waited up to 200 ms for data, the others 400 us"
    assert told.detail is not None
    assert told.detail.startswith("they add 48 % to the mean step")
    silent(slow_sample, run_of(uneven(500, ()), timed_waits_s=(0.0004,) * 50, timed_steps_s=(0.0044,) * 50))
