"""The replay of all ranks: unchanged it is what was recorded, and changed it is what is calculated by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mfu_doctor.job.across.edits import JobEdit
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.what_if import like_the_others, no_skew, stages_alike
from tests.job.drawing import US, DrawnJob


def two_groups() -> Job:
    drawn = DrawnJob(4, clock_us={2: 900})
    for step in range(4):
        drawn.step()
        for _ in range(3):
            drawn.work({rank: 100 + (rank * 5 + step * 3) % 7 for rank in range(4)})
            drawn.collective(5, group="tp", among=(0, 1))
            drawn.collective(5, group="tp", among=(2, 3))
        drawn.work({3: 40}, "python")
        drawn.collective(20, group="dp", among=(0, 2))
        drawn.collective(20, group="dp", among=(1, 3))
    return Job(tuple(drawn.summaries()))


def test_the_unchanged_replay_is_what_was_recorded() -> None:
    job = two_groups()
    assert job.replay.base_ns == pytest.approx(job.replay.measured_ns)
    assert job.replay.error == pytest.approx(0)
    assert job.replay.distrust is None


def test_a_straggler_like_the_others_leaves_what_the_others_take() -> None:
    """Of a step of 1000 + 300 + 50 + 500 + 20 us, 300 are rank 1's alone."""
    drawn = DrawnJob(4)
    for _ in range(5):
        drawn.step()
        drawn.work(1000)
        drawn.work({1: 300}, "data_loading")
        drawn.collective(50)
        drawn.work(500)
        drawn.collective(20)
    job = Job(tuple(drawn.summaries()))
    assert job.replay.base_ns == pytest.approx(1870 * US)
    assert job.replay.steps_ns(like_the_others(job, (1,)).mid) == pytest.approx(1570 * US)
    assert job.replay.steps_ns(no_skew(job)) == pytest.approx(1645 * US)  # 300 us over four ranks are 75 each


def test_a_second_straggler_takes_over() -> None:
    """Rank 1 is 300 us late and rank 2 is 200 us late: rank 1 like the others leaves the 200."""
    drawn = DrawnJob(4)
    for _ in range(5):
        drawn.step()
        drawn.work({0: 1000, 1: 1300, 2: 1200, 3: 1000})
        drawn.collective(50)
    job = Job(tuple(drawn.summaries()))
    assert job.replay.left(like_the_others(job, (1,)).mid) == pytest.approx(1250 / 1350)
    assert job.replay.left(like_the_others(job, (1, 2)).mid) == pytest.approx(1050 / 1350)


def test_faster_collectives_save_their_transfer_only() -> None:
    drawn = DrawnJob(2)
    for _ in range(3):
        drawn.step()
        drawn.work({0: 100, 1: 400})
        drawn.collective(50)
    job = Job(tuple(drawn.summaries()))
    half = JobEdit(transfer=job.replay.transfer / 2)
    assert job.replay.transfer.tolist() == [50 * US] * 6
    assert job.replay.steps_ns(half) == pytest.approx(425 * US)


def test_what_one_sends_ahead_another_still_waits_for() -> None:
    """Rank 0 sends and goes on before rank 1 comes; rank 1 cannot leave before it was sent."""
    drawn = DrawnJob(2)
    for _ in range(2):
        drawn.step()
        drawn.work({0: 100, 1: 30})
        drawn.send(0, 1, 5)
        drawn.work({0: 50})
        drawn.collective(10)
    zero, one = drawn.summaries()
    job = Job((zero, one))
    assert job.replay.base_ns == pytest.approx(165 * US)
    saved = np.where((job.table.rank == 0) & job.table.is_kind("send"), 60.0 * US, 0.0)
    assert job.replay.steps_ns(JobEdit(saved=saved)) == pytest.approx(105 * US)


def test_stages_alike_leave_the_fill_and_the_drain() -> None:
    """Two stages of 100 and 300 us, four micro-batches: 100 + 4 x 305; alike, 200 + 4 x 205."""
    drawn = DrawnJob(2)
    for _ in range(3):
        drawn.step()
        for _ in range(4):
            drawn.work({0: 100})
            drawn.send(0, 1, 5)
            drawn.work({1: 300})
        drawn.collective(0)
    job = Job(tuple(drawn.summaries()))
    assert job.replay.base_ns == pytest.approx((100 + 4 * 305) * US)
    assert job.replay.steps_ns(stages_alike(job)) == pytest.approx((200 + 4 * 205) * US)
