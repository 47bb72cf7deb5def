"""Work that differs between ranks, by turns."""

from __future__ import annotations

import pytest

from mfu_doctor.rules.ranks.uneven_work import uneven_work
from tests.job.drawing import DrawnJob
from tests.rules.ranks.asking import found, job_of, saved_us, silent

LENGTHS = (1000, 1600, 2200, 1200)  # us of a step's work; each rank has each in turn


def by_turns(*, counted: bool = True) -> DrawnJob:
    drawn = DrawnJob(4)
    for step in range(8):
        drawn.step()
        took = {rank: LENGTHS[(rank + step) % 4] for rank in range(4)}
        drawn.work(took, "compute: matmul" if counted else "python")
        drawn.collective(50)
        for number, rank in enumerate(drawn.ranks):
            rank.flops.append(took[number] * 1e6 if counted else float("nan"))
    return drawn


def test_who_is_late_follows_the_work() -> None:
    """Even work takes 1500 us instead of the 2200 of the longest."""
    job = job_of(by_turns())
    assert "follows its FLOPs" in found(uneven_work, job).summary
    assert saved_us(uneven_work, job) == pytest.approx((350, 700))


def test_lateness_by_turns_that_is_no_work_is_not_uneven_work() -> None:
    silent(uneven_work, job_of(by_turns(counted=False)))
