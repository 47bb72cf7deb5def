"""Which collectives of the ranks are the same: by number, by order with proof, by ends, or between two ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.matching import BY_NUMBER, BY_ORDER, BY_PAIR
from mfu_doctor.job.join.join import join
from mfu_doctor.job.summary import RankSummary
from tests.job.drawing import DrawnJob


def two_buckets(*, numbered: bool = True, steps: int = 5, ranks: int = 3) -> DrawnJob:
    """Each step has two all-reduces of one size."""
    drawn = DrawnJob(ranks, numbered=numbered)
    for _ in range(steps):
        drawn.step()
        drawn.work(1000)
        drawn.collective(50)
        drawn.work({0: 200})
        drawn.collective(50)
    return drawn


def cut(summary: RankSummary, rows: Sequence[int]) -> RankSummary:
    """A rank of which only these collectives were recorded."""
    kept = np.array(rows)
    each = summary.collectives
    columns = {
        name: getattr(each, name)[kept]
        for name in ("group", "sequence", "order", "size", "peer", "arrive", "end", "exposed", "step")
    }
    kinds = tuple(each.kind[i] for i in kept.tolist())
    ledger = replace(summary.ledger, at_arrival=summary.ledger.at_arrival[kept], at_end=summary.ledger.at_end[kept])
    return replace(summary, collectives=replace(each, kind=kinds, **columns), ledger=ledger)


def members(job: Job) -> list[set[tuple[int, int]]]:
    """Rank and row within the rank of the members of each collective."""
    table, matched = job.table, job.matched
    return [
        {(int(table.rank[row]), int(row - table.first[table.rank[row]])) for row in matched.members(i).tolist()}
        for i in range(len(matched))
    ]


def test_collectives_of_one_number_are_the_same() -> None:
    job = Job(tuple(two_buckets().summaries()))
    assert members(job) == [{(0, i), (1, i), (2, i)} for i in range(10)]
    assert job.matched.methods == {BY_NUMBER: 10}
    assert job.matched.complete.all()


def test_without_numbers_order_counts() -> None:
    job = Job(tuple(two_buckets(numbered=False).summaries()))
    assert members(job) == [{(0, i), (1, i), (2, i)} for i in range(10)]
    assert job.matched.methods == {BY_ORDER: 10}


def test_a_window_that_begins_a_step_later_is_not_matched_by_position() -> None:
    """All collectives have one kind and size, so any shift of the ten would agree: the ends tell which one is right."""
    zero, one, two = two_buckets(numbered=False).summaries()
    job = Job((zero, cut(one, range(2, 10)), two))
    assert members(job)[2] == {(0, 2), (1, 0), (2, 2)}
    assert members(job)[0] == {(0, 0), (2, 0)}
    assert not job.matched.complete[0]


def test_steps_that_the_profiler_numbers_decide_before_clocks_do() -> None:
    """The second rank's clock is a whole step ahead, so the ends alone would match it a step off."""
    drawn = two_buckets(numbered=False)
    drawn.clock = {1: 1_300_000}
    zero, one, two = drawn.summaries()
    late = cut(one, range(2, 10))
    assert members(Job((zero, late, two)))[2] == {(0, 2), (1, 0), (2, 2)}


def test_collectives_that_were_lost_in_the_middle_are_found_by_their_ends() -> None:
    zero, one, two = two_buckets(numbered=False).summaries()
    job = Job((zero, cut(one, [0, 1, 4, 5, 6, 8]), two))
    assert [dict(sorted(found)).get(1) for found in members(job)] == [0, 1, None, None, 2, 3, 4, None, 5, None]


def test_collectives_of_other_kinds_are_not_the_same() -> None:
    zero, one, _ = two_buckets().summaries()
    other = replace(one, collectives=replace(one.collectives, kind=("allgather", *one.collectives.kind[1:])))
    job = Job((zero, other))
    assert len(job.matched) == 9
    assert job.matched.unmatched == {"the ranks do not agree on the kind": 2}


def test_sends_are_matched_with_receives_between_the_same_ranks() -> None:
    drawn = DrawnJob(3)
    for _ in range(2):
        drawn.step()
        drawn.work(100)
        drawn.send(0, 1, 5)
        drawn.send(1, 2, 5)
        drawn.send(2, 1, 5)
    job = Job(tuple(drawn.summaries()))
    assert job.matched.methods == {BY_PAIR: 6}
    assert {(0, 0), (1, 0)} in members(job)
    assert {(1, 2), (2, 1)} in members(job)


def test_a_rank_that_was_recorded_without_sizes_is_matched_all_the_same() -> None:
    """Shapes of one rank could not be used, so none of ten collectives was the same on both."""
    drawn = DrawnJob(2, numbered=False)
    for _ in range(5):
        drawn.step()
        drawn.work({0: 100, 1: 400})
        drawn.collective(10, size={0: 1 << 20, 1: -1})
    summaries = drawn.summaries()
    assert len(Job(tuple(summaries)).matched) == 5
    (row,) = join(summaries, source="runs/7").collectives
    assert (row.size_bytes, row.count) == (1 << 20, 1)


def test_what_was_sent_to_a_rank_that_is_not_there_is_counted() -> None:
    drawn = DrawnJob(3)
    drawn.step()
    drawn.send(0, 1, 5)
    drawn.send(1, 2, 5)
    zero, one, _ = drawn.summaries()
    job = Job((zero, one))
    assert len(job.matched) == 1
    assert job.matched.unmatched == {"the rank at the other end was not read": 1}


def test_groups_of_the_same_name_and_other_ranks_are_apart() -> None:
    drawn = DrawnJob(4)
    drawn.step()
    for pair in ((0, 1), (2, 3)):
        drawn.collective(5, group="tp", among=pair)
    job = Job(tuple(drawn.summaries()))
    assert members(job) == [{(0, 0), (1, 0)}, {(2, 0), (3, 0)}]


def test_what_some_left_before_others_came_is_not_the_same() -> None:
    """The trace of the first two ranks is of another time than that of the last two: the numbers agree by chance."""
    drawn = two_buckets(ranks=4)
    ranks = drawn.summaries()
    other = two_buckets(ranks=4)
    other.clock = dict.fromkeys(range(4), 3_000_000)
    late = other.summaries()
    each = [*ranks[:3], late[3]]
    job = Job(tuple(each))
    assert job.clocks.offset_ns[3] == -3_000_000  # a clock that is 3 ms ahead explains all of it
    assert len(job.matched) == 10
