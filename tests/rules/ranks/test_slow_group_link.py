"""A group that moves the same bytes in more time than its sisters."""

from __future__ import annotations

import pytest

from mfu_doctor.rules.ranks.slow_group_link import slow_group_link
from tests.job.drawing import DrawnJob
from tests.rules.ranks.asking import found, job_of, saved_us, silent


def four_groups(slow_us: float) -> DrawnJob:
    """Four data-parallel groups of two ranks, and then all meet; the last group's all-reduce takes `slow_us`."""
    drawn = DrawnJob(8)
    for _ in range(3):
        drawn.step()
        drawn.work(500)
        for first in range(4):
            drawn.collective(slow_us if first == 3 else 100, group="dp", among=(first, first + 4))
        drawn.collective(10, group="world")
    return drawn


def test_the_slow_group_is_named_and_priced_at_its_sisters() -> None:
    job = job_of(four_groups(300))
    fault = found(slow_group_link, job)
    assert fault.summary == (
        "The dp group of ranks 3 and 7 moves the same bytes in 3.0 times the time of the others: "
        "300 us a collective, against 100 us"
    )
    assert saved_us(slow_group_link, job) == pytest.approx((100, 200))


def test_groups_alike_are_fine() -> None:
    silent(slow_group_link, job_of(four_groups(110)))
