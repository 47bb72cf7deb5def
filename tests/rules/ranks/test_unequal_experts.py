"""Experts that get more tokens than others."""

from __future__ import annotations

import pytest

from mfu_doctor.rules.ranks.unequal_experts import unequal_experts
from tests.job.drawing import DrawnJob
from tests.rules.ranks.asking import found, job_of, saved_us, silent


def experts(tokens: tuple[int, ...]) -> DrawnJob:
    """Each rank's experts take a microsecond a token, and then give back a KiB for each."""
    drawn = DrawnJob(len(tokens))
    for step in range(4):
        drawn.step()
        drawn.work(200)
        drawn.collective(20, kind="alltoall", group="ep", size=1000 << 10)
        mine = {rank: tokens[(rank + step // 2) % len(tokens)] for rank in range(len(tokens))}
        drawn.work({rank: float(count) for rank, count in mine.items()})
        drawn.collective(20, kind="alltoall", group="ep", size={rank: count << 10 for rank, count in mine.items()})
    return drawn


def test_the_fullest_expert_is_priced_against_the_mean() -> None:
    """1000 tokens of a mean of 500: 500 us of the step."""
    job = job_of(experts((1000, 400, 300, 300)))
    assert found(unequal_experts, job).summary.startswith("The fullest rank is given 133 % of the mean in all-to-alls")
    assert saved_us(unequal_experts, job) == pytest.approx((250, 500))


def test_even_experts_are_fine() -> None:
    silent(unequal_experts, job_of(experts((505, 500, 495, 500))))
