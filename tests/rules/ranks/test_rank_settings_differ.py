"""Late ranks that run with other settings."""

from __future__ import annotations

from mfu_doctor.rules.ranks.rank_settings_differ import rank_settings_differ
from tests.job.drawing import DrawnJob
from tests.rules.ranks.asking import found, job_of, silent


def threads(*, late: int) -> DrawnJob:
    """Rank 2 has one thread, the others eight; and one rank is late."""
    drawn = DrawnJob(4)
    for _ in range(5):
        drawn.step()
        drawn.work({rank: 1000 + 500 * (rank == late) for rank in range(4)})
        drawn.collective(50)
    drawn.options = {rank: {"torch threads": "1" if rank == 2 else "8", "torch": "2.9"} for rank in range(4)}
    return drawn


def test_the_setting_of_the_late_rank_is_told() -> None:
    fault = found(rank_settings_differ, job_of(threads(late=2)))
    assert fault.summary == "Rank 2, which the others wait for, has torch threads 1; the others have 8"
    assert [one.name for one in fault.evidence] == ["torch threads"]


def test_a_setting_of_a_rank_that_is_not_late_is_no_fault() -> None:
    silent(rank_settings_differ, job_of(threads(late=1)))
