"""A machine all of whose ranks are late."""

from __future__ import annotations

import pytest

from mfu_doctor.rules.ranks.slow_node import slow_node
from tests.job.drawing import DrawnJob
from tests.rules.ranks.asking import found, job_of, saved_us, silent


def two_machines(slow: tuple[int, ...]) -> DrawnJob:
    drawn = DrawnJob(8, hosts=["a"] * 4 + ["b"] * 4)
    for _ in range(5):
        drawn.step()
        drawn.work({rank: 1400 if rank in slow else 1000 for rank in range(8)})
        drawn.collective(50)
    return drawn


def test_the_machine_is_named_and_priced() -> None:
    job = job_of(two_machines((4, 5, 6, 7)))
    fault = found(slow_node, job)
    assert (
        "for ranks 4, 5, 6 and 7 of b: computing (matmul) takes 1.40 ms there, 1.00 ms on the others" in fault.summary
    )
    assert saved_us(slow_node, job)[1] == pytest.approx(400)


def test_one_slow_rank_of_a_machine_is_no_slow_machine() -> None:
    silent(slow_node, job_of(two_machines((4,))))
