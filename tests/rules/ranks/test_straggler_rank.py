"""Whom all ranks wait for."""

from __future__ import annotations

import pytest

from mfu_doctor.rules.ranks.straggler_rank import straggler_rank
from tests.job.drawing import DrawnJob
from tests.rules.ranks.asking import found, job_of, saved_us, silent


def one_late(*, same: bool = True) -> DrawnJob:
    """One rank of four loads for 300 us: always rank 1, or another one in each step."""
    drawn = DrawnJob(4)
    for step in range(6):
        drawn.step()
        drawn.work(1000)
        drawn.work({1 if same else step % 4: 300}, "data_loading")
        drawn.collective(50)
    return drawn


def test_the_rank_and_what_takes_longer_there_are_named() -> None:
    fault = found(straggler_rank, job_of(one_late()))
    assert fault.summary == (
        "All other ranks wait 300 us a step (22 %) for rank 1: waiting for data takes 300 us there, 0 ms on the others"
    )
    assert (fault.late, fault.cause, fault.fix) == ((1,), "data_loading", "mfu-doctor report DIR --rank 1")


def test_a_rank_late_for_kernels_of_many_kinds_is_late_for_computing() -> None:
    """No kind of kernel has most of it, as with longer sequences, and nothing was named."""
    drawn = DrawnJob(4)
    for _ in range(6):
        drawn.step()
        drawn.work({0: 500, 1: 640, 2: 500, 3: 500})
        drawn.work({0: 300, 1: 400, 2: 300, 3: 300}, "compute: attention")
        drawn.work({0: 200, 1: 260, 2: 200, 3: 200}, "compute: elementwise")
        drawn.collective(50)
    fault = found(straggler_rank, job_of(drawn))
    assert fault.cause == "compute"
    assert fault.summary.endswith("for rank 1: computing takes 1.30 ms there, 1.00 ms on the others")


def test_a_rank_late_for_launching_and_python_waits_for_its_cpu() -> None:
    drawn = DrawnJob(4)
    for _ in range(6):
        drawn.step()
        drawn.work(1000)
        drawn.work({1: 140}, "launch")
        drawn.work({1: 120}, "python")
        drawn.work({1: 40}, "sync")
        drawn.work({1: 30}, "data_loading")
        drawn.collective(50)
    fault = found(straggler_rank, job_of(drawn))
    assert fault.cause == "host"
    assert fault.summary.endswith("for rank 1: waiting for the CPU takes 260 us there, 0 ms on the others")


def test_all_of_its_lateness_is_saved() -> None:
    assert saved_us(straggler_rank, job_of(one_late())) == pytest.approx((300, 300))


def test_another_rank_in_each_step_is_no_straggler() -> None:
    silent(straggler_rank, job_of(one_late(same=False)))
