"""Clocks are brought together by what all leave together; what is left is the resolution."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from mfu_doctor.job.across.job import Job
from tests.job.drawing import DrawnJob


def skewed(clock_us: Mapping[int, float], *, hosts: list[str | None] | None = None) -> DrawnJob:
    """Four ranks; the first two and the last two each have a group, and ranks 1 and 2 a third one."""
    drawn = DrawnJob(4, clock_us=clock_us, hosts=hosts)
    for _ in range(4):
        drawn.step()
        drawn.work({0: 100, 1: 300, 2: 50, 3: 200})
        drawn.collective(10, group="tp", among=(0, 1))
        drawn.collective(10, group="tp", among=(2, 3))
        drawn.collective(10, group="dp", among=(1, 2))
    return drawn


def test_offsets_are_found_over_groups_that_share_ranks() -> None:
    job = Job(tuple(skewed({1: 500, 2: -700, 3: 40_000}).summaries()))
    assert job.clocks.offset_ns == pytest.approx([0, -500_000, 700_000, -40_000_000])
    assert job.clocks.tied.all()
    assert job.clocks.resolution_ns == 0
    assert job.clocks.ends == 12


def test_waits_do_not_depend_on_clocks() -> None:
    same, other = (Job(tuple(skewed(clock).summaries())) for clock in ({}, {1: 500, 2: -700, 3: 40_000}))
    assert (same.waits.wait == other.waits.wait).all()
    assert same.waits.wait[0] == 200_000


def test_sends_tell_nothing_of_clocks() -> None:
    drawn = DrawnJob(2, clock_us={1: 500})
    drawn.step()
    drawn.send(0, 1, 5)
    job = Job(tuple(drawn.summaries()))
    assert job.clocks.resolution_ns is None
    assert not job.clocks.tied.any()


def test_an_offset_below_the_resolution_is_none() -> None:
    """Ends that differ by 4 us at random tell no offset of 2 us; one of 500 us they do."""
    drawn = skewed({1: 2, 2: 500, 3: 500}, hosts=["a", "a", "b", "b"])
    ranks = drawn.summaries()
    draw = np.random.default_rng(0)
    for one in ranks:
        one.collectives.end[:] += draw.integers(-2000, 2000, len(one.collectives))
    job = Job(tuple(ranks))
    assert job.clocks.offset_ns[1] == 0
    assert job.clocks.offset_ns[2] == job.clocks.offset_ns[3] == pytest.approx(-500_000, abs=4000)
    assert job.clocks.resolution_ns is not None
    assert 2000 < job.clocks.resolution_ns < 5000


def test_a_clock_that_drifts_is_a_line() -> None:
    """Rank 1's clock gains 20 us a second over 20 seconds."""
    drawn = DrawnJob(2)
    for _ in range(20):
        drawn.step()
        drawn.work(1_000_000)
        drawn.collective(10)
    zero, one = drawn.summaries()
    each = one.collectives
    for times in (each.arrive, each.end):
        times[:] += ((times - each.arrive[0]) * 20e-6).astype(np.int64)
    job = Job((zero, one))
    assert job.clocks.drift[1] == pytest.approx(-20e-6, rel=0.01)
    assert job.clocks.resolution_ns is not None
    assert job.clocks.resolution_ns < 100


def messages(*, hosts: list[str | None] | None = None) -> Job:
    """Rank 0 sends at 100 us and rank 1 answers at 150 us; the clock of rank 1 is 500 us ahead."""
    drawn = DrawnJob(2, clock_us={1: 500}, hosts=hosts)
    for _ in range(3):
        drawn.step()
        drawn.work({0: 100})
        drawn.send(0, 1, 10)
        drawn.work({1: 40})
        drawn.send(1, 0, 10)
    return Job(tuple(drawn.summaries()))


def test_messages_both_ways_tie_two_clocks() -> None:
    """None is received before it is sent: the clock is 490 to 510 us ahead, as a message takes 10 us."""
    clocks = messages().clocks
    assert clocks.offset_ns == pytest.approx([0, -500_000])
    assert clocks.tied.all()
    assert (clocks.resolution_ns, clocks.rooms) == (10_000, 1)


def test_ranks_of_one_machine_need_no_messages() -> None:
    clocks = messages(hosts=["a", "a"]).clocks
    assert clocks.offset_ns.tolist() == [0, 0]
    assert clocks.tied.all()
    assert (clocks.resolution_ns, clocks.rooms) == (None, 0)


def test_messages_are_not_asked_where_collectives_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline has a hundred thousand of them; here they would tell 490 to 510 us of a clock that all-reduces tell exactly."""
    drawn = DrawnJob(2, clock_us={1: 500})
    for _ in range(3):
        drawn.step()
        drawn.work({0: 100})
        drawn.send(0, 1, 10)
        drawn.work({1: 40})
        drawn.send(1, 0, 10)
        drawn.collective(10)
    monkeypatch.setattr("mfu_doctor.job.across.clock.rooms_of", lambda *_: pytest.fail("messages were looked at"))
    clocks = Job(tuple(drawn.summaries())).clocks
    assert clocks.offset_ns == pytest.approx([0, -500_000])
    assert (clocks.resolution_ns, clocks.rooms) == (0, 0)


def test_no_send_leaves_early_by_less_than_clocks_are_known() -> None:
    """A clock is 10 us ahead, and ends differ by more: the send waits for its receive, and does not leave 5 us before."""
    drawn = DrawnJob(2, clock_us={1: 10})
    for _ in range(8):
        drawn.step()
        drawn.work({0: 100, 1: 1100})
        drawn.send(0, 1, 5)
        drawn.collective(10)
    ranks, dice = drawn.summaries(), np.random.default_rng(0)
    for one in ranks:
        reduced = np.array([kind == "allreduce" for kind in one.collectives.kind])
        one.collectives.end[reduced] += dice.integers(-20_000, 20_000, int(reduced.sum()))
    job = Job(tuple(ranks))
    assert job.clocks.resolution_ns is not None
    assert job.clocks.resolution_ns > 10_000
    assert not job.waits.ahead.any()
    assert (job.waits.transfer[job.table.is_kind("send")] == 0).all()
