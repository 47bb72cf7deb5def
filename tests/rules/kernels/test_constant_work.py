"""constant-work: what functions give in every step alike vanishes with all of its operators."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts.wasted_work import ConstantResult
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.kernels.constant_work import constant_work
from tests.rules.drawing import steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

MASK = ConstantResult(place="train.py:12", function="mask", calls=2, steps=4)
TABLE = ConstantResult(place="train.py:20", function="table", calls=2, steps=4)
OTHER = ConstantResult(place="train.py:30", function="mask", calls=2, steps=4)


def masked(*told: ConstantResult, device: bool = False, random: bool = False, ends: bool = True) -> Run:
    """Two calls of mask() of 1 ms, the second one inside of table(), and 4 ms of other work."""

    def work(drawn: Timeline) -> None:
        drawn.op("aten::arange", kernel=900 if device else None, host=10 if device else 900)
        drawn.python(50)
        drawn.op("aten::normal_" if random else "aten::le", kernel=50 if device else None, host=50)

    def body(drawn: Timeline) -> None:
        with drawn.span("train.py(12): mask", "python_function"):
            work(drawn)
        with drawn.span("train.py(20): table", "python_function"):
            drawn.python(5)
            with drawn.span("train.py(12): mask", "python_function"):
                work(drawn)
        drawn.op("aten::mm", kernel=4_000 if device else None, host=10 if device else 4_000)
        with drawn.span("Optimizer.step#SGD.step"):
            drawn.op("aten::add_", kernel=20 if device else None, host=20)

    return run_of(steps(body, device=device), constant_results=told if ends else None)


def test_the_calls_vanish_with_what_is_between_their_operators() -> None:
    run = masked(MASK)
    price = price_us(constant_work, run)
    assert price.low_ns == close(2 * 950)
    assert price.mid_ns == close(2 * 1_000)
    told = found(constant_work, run)
    assert told.summary.startswith("mask() gives the same in each step, which takes ")
    assert told.place == "train.py:12"
    assert "it is called 2 times a step, and what it returned in 4 steps is equal" in (told.detail or "")
    assert "if something changes it later in the run" in (told.detail or "")  # four steps are not the whole run


def test_on_a_device_its_time_vanishes() -> None:
    assert price_us(constant_work, masked(MASK, device=True)).mid_ns == close(2 * 950 + 6 * 10 - 60)


def test_one_that_another_one_calls_is_a_part_of_it() -> None:
    told = found(constant_work, masked(MASK, TABLE))
    assert told.summary.startswith("table() and mask() give the same in each step")
    assert price_us(constant_work, masked(MASK, TABLE)).mid_ns == close(2 * 1_000)
    assert price_us(constant_work, masked(TABLE)).mid_ns == close(1_000)


@pytest.mark.parametrize(
    "run", [masked(), masked(OTHER), masked(MASK, random=True)], ids=["none", "elsewhere", "random"]
)
def test_what_is_not_known_to_be_constant_stays(run: Run) -> None:
    silent(constant_work, run)


def test_where_nothing_was_compared_it_says_so() -> None:
    assert isinstance(constant_work.judge(masked(ends=False)), Skip)
