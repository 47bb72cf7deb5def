"""Who came late, what took longer there, and what the others waited; all calculated by hand."""

from __future__ import annotations

import pytest

from mfu_doctor.job.across.group_rates import slow_groups
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.patterns import patterns_of
from mfu_doctor.job.across.words import sentence_of
from mfu_doctor.result.job import BEFORE, JITTER, NOTHING, PIPELINE, SLOW_NODE, STRAGGLER, UNEVEN_WORK, UNREAD_RANK
from tests.job.drawing import US, DrawnJob


def job_of(drawn: DrawnJob) -> Job:
    return Job(tuple(drawn.summaries()))


def slow_loader(*, begin_us: dict[int, float] | None = None) -> DrawnJob:
    """Rank 1 loads for 300 us; everyone else for none."""
    drawn = DrawnJob(4, begin_us=begin_us)
    for _ in range(5):
        drawn.step()
        drawn.work(1000)
        drawn.work({1: 300}, "data_loading")
        drawn.collective(50)
        drawn.work(500)
        drawn.collective(20)
    return drawn


def test_a_straggler_is_named_with_its_cause() -> None:
    (found,) = patterns_of(job_of(slow_loader()))
    assert (found.kind, found.late, found.steps) == (STRAGGLER, (1,), 5)
    assert found.wait_ns == 300 * US
    assert found.more_ns == {"data_loading": 300 * US}


def test_differences_sum_to_the_lateness() -> None:
    drawn = slow_loader()
    job = job_of(drawn)
    late = job.lateness
    for i in range(1, len(job.matched)):
        others = [job.waits.arrive[row] for row in job.matched.members(i) if row != late.row[i]]
        assert late.late[i] == pytest.approx(job.waits.arrive[late.row[i]] - sorted(others)[1])


def test_a_rank_that_began_later_is_late_from_before() -> None:
    """Rank 2's first step begins 7 ms after the others': in the first collective that is why all wait."""
    first, second = patterns_of(job_of(slow_loader(begin_us={2: 7000})))
    assert (first.kind, first.late) == (BEFORE, (2,))
    assert first.more_ns == {"before the recording": 7000 * US / 5}
    assert (second.kind, second.late) == (STRAGGLER, (1,))
    assert second.wait_ns == 300 * US * 4 / 5  # not in the first step


def test_lateness_is_forwarded_to_the_group_where_it_began() -> None:
    """Rank 3 is slow; rank 2 waits for it in tp, and so comes late to its own dp group: that too is for rank 3."""
    drawn = DrawnJob(4)
    for _ in range(4):
        drawn.step()
        for _ in range(4):
            drawn.work(100)
            drawn.work({3: 50}, "python")
            drawn.collective(5, group="tp", among=(0, 1))
            drawn.collective(5, group="tp", among=(2, 3))
        drawn.collective(20, group="dp", among=(0, 2))
        drawn.collective(20, group="dp", among=(1, 3))
    (found,) = patterns_of(job_of(drawn))
    assert (found.kind, found.late) == (STRAGGLER, (3,))
    assert found.wait_ns == 200 * US  # rank 2 in tp, ranks 0 and 1 in dp: each of the three others 200 us
    assert found.more_ns["python"] == 400 * US  # to the tp collectives, and again to the one of dp


def test_all_ranks_of_a_machine_are_a_slow_node() -> None:
    drawn = DrawnJob(8, hosts=["a"] * 4 + ["b"] * 4)
    for step in range(5):
        drawn.step()
        drawn.work({rank: 1000 + (rank + step) % 3 + (400 if rank >= 4 else 0) for rank in range(8)})
        drawn.collective(50)
    (found,) = patterns_of(job_of(drawn))
    assert (found.kind, found.late) == (SLOW_NODE, (4, 5, 6, 7))
    assert found.more_ns["compute: matmul"] == pytest.approx(
        401 * US, abs=2 * US
    )  # than on the other machine, not its mates
    assert found.wait_ns == pytest.approx(401 * US, abs=3 * US)


def by_turns(*, counted: bool, owner: str = "compute: matmul") -> DrawnJob:
    """Another rank has more to do in each step."""
    drawn = DrawnJob(4)
    for step in range(8):
        drawn.step()
        more = {rank: 1000 + 600 * ((rank * 3 + step * 5) % 4) for rank in range(4)}
        drawn.work(more, owner)
        drawn.collective(50)
        for number, rank in enumerate(drawn.ranks):
            rank.flops += [more[number] * 1e6] if counted else []
    return drawn


def test_changing_ranks_that_follow_their_work_are_uneven_work() -> None:
    (found,) = patterns_of(job_of(by_turns(counted=True)))
    assert (found.kind, found.late, found.follows) == (UNEVEN_WORK, (), "FLOPs")


def test_computing_that_changes_much_is_uneven_work_where_nothing_is_counted() -> None:
    (found,) = patterns_of(job_of(by_turns(counted=False)))
    assert (found.kind, found.follows) == (UNEVEN_WORK, "computing")


def test_changing_ranks_without_a_cause_are_jitter() -> None:
    (found,) = patterns_of(job_of(by_turns(counted=False, owner="python")))
    assert (found.kind, found.late) == (JITTER, ())


def test_waiting_between_stages_is_of_the_pipeline() -> None:
    drawn = DrawnJob(2)
    for _ in range(3):
        drawn.step()
        for _ in range(4):
            drawn.work({0: 100})
            drawn.send(0, 1, 5)
            drawn.work({1: 300})
    assert [one.kind for one in patterns_of(job_of(drawn))] == [PIPELINE]


def test_ranks_that_come_together_wait_for_nobody() -> None:
    drawn = DrawnJob(4)
    for step in range(5):
        drawn.step()
        drawn.work({rank: 1000 + (rank * 7 + step * 3) % 5 for rank in range(4)})
        drawn.collective(50)
    assert [one.kind for one in patterns_of(job_of(drawn))] == [NOTHING]


def test_three_steps_in_which_ranks_change_are_no_straggler() -> None:
    """The same rank is last in two of three steps, which of four ranks one is by chance in five of eight cases."""
    drawn = DrawnJob(4)
    for late in (2, 2, 0):
        drawn.step()
        drawn.work({rank: 1000 + (300 if rank == late else 0) for rank in range(4)})
        drawn.collective(50)
    assert [one.kind for one in patterns_of(job_of(drawn))] == [JITTER]


def three_by_four() -> DrawnJob:
    """Four groups of three ranks, then all; rank 11 works 300 us longer, and ranks 3 and 7 wait for it in their group."""
    drawn = DrawnJob(12)
    for _ in range(4):
        drawn.step()
        drawn.work({rank: 800 if rank == 11 else 500 for rank in range(12)})
        for first in range(4):
            drawn.collective(100, group="dp", among=(first, first + 4, first + 8))
        drawn.collective(10, group="world")
    return drawn


def test_nobody_is_blamed_for_a_rank_without_a_trace() -> None:
    """Of rank 11 nothing was read: ranks 3 and 7 were told to be late, and their group to be slow."""
    ranks = three_by_four().summaries()
    (whole,) = patterns_of(Job(tuple(ranks)))
    assert (whole.kind, whole.late) == (STRAGGLER, (11,))
    job = Job(tuple(ranks[:11]))
    (found,) = patterns_of(job)
    assert (found.kind, found.late) == (UNREAD_RANK, ())
    assert slow_groups(job) is None
    assert "a rank without a trace" in sentence_of(job, found)


def test_a_rank_that_is_slow_itself_is_named_though_another_has_no_trace() -> None:
    job = Job(tuple(slow_loader().summaries()[:3]))
    (found,) = patterns_of(job)
    assert (found.kind, found.late) == (STRAGGLER, (1,))
