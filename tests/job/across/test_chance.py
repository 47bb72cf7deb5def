"""What is no chance, by the tables of Student's distribution."""

from __future__ import annotations

import numpy as np
import pytest

from mfu_doctor.job.across.chance import above, is_sure


@pytest.mark.parametrize(
    ("freedom", "t"),
    [(1, 63.657), (2, 9.925), (3, 5.841), (4, 4.604), (5, 4.032), (9, 3.250), (20, 2.845), (30, 2.750)],
)
def test_one_of_two_hundred_is_above_what_the_table_says(freedom: int, t: float) -> None:
    assert above(t, freedom) == pytest.approx(0.005, rel=0.01)
    assert above(-t, freedom) == pytest.approx(0.995, rel=0.01)


def test_few_steps_prove_less_than_many() -> None:
    """A mean of four standard errors: of five steps by chance in one of 120 cases, of twenty in one of 2,600."""
    five, twenty = np.resize([4.0, 12.0, 6.0, 10.0, 8.0], 5), np.resize([1.0, 9.0], 20)
    five -= five.mean() - 4 * five.std(ddof=1) / np.sqrt(5)
    twenty -= twenty.mean() - 4 * twenty.std(ddof=1) / np.sqrt(20)
    assert not is_sure(five, among=2)
    assert is_sure(twenty, among=2)
    assert not is_sure(twenty, among=1024)


def test_what_is_the_same_in_every_step_is_no_chance() -> None:
    assert is_sure(np.full(2, 7.0), among=1024)
    assert not is_sure(np.zeros(5), among=2)


def test_healthy_jobs_are_left_in_peace() -> None:
    """Two ranks of a thousand jobs, five steps each: who is waited for is chance."""
    dice = np.random.default_rng(1)
    for_one = dice.normal(0.0, 1.0, (1000, 5))
    told = sum(is_sure(more, among=2) or is_sure(-more, among=2) for more in for_one)
    assert told <= 20
