"""One step drawn: what stands where in the strip of a rank."""

from __future__ import annotations

import pytest

from mfu_doctor.job.across.job import Job
from mfu_doctor.job.join import picture
from mfu_doctor.job.join.picture import strips
from tests.job.drawing import DrawnJob


def drawn(late_us: float, calls: int) -> Job:
    """Steps of so many collectives, to each of which rank 1 comes late after computing for 1,000 us."""
    job = DrawnJob(2)
    for _ in range(3):
        job.step()
        for _ in range(calls):
            job.work({0: 1000, 1: 1000 + late_us})
            job.collective(50)
    return Job(tuple(job.summaries()))


def waits_of(job: Job) -> list[tuple[float, float]]:
    """When rank 0 waits in the drawn step, in microseconds."""
    (strip,) = (strip for strip in strips(job, 1) if strip.rank == 0)
    return [(begin * 1e6, end * 1e6) for begin, end, owner in strip.parts if owner == "wait"]


def test_waiting_stands_in_the_collective_where_it_was() -> None:
    assert waits_of(drawn(400, 2)) == [pytest.approx((1000, 1400)), pytest.approx((2450, 2850))]


def test_waiting_in_collectives_too_short_to_draw_is_spread_over_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 collectives among 1,024 ranks none was drawn: all of a step's computing stood first, and then its communication."""
    monkeypatch.setattr(picture, "_MOST_PARTS", 0)  # as of very many ranks
    job = drawn(400, 100)
    waits, step_us = waits_of(job), 145_000
    assert sum(end - begin for begin, end in waits) == pytest.approx(40_000, rel=0.15)  # with the transfers
    in_first_half = sum(end - begin for begin, end in waits if end < step_us / 2)
    assert in_first_half == pytest.approx(20_000, rel=0.2)
