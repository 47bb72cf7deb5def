"""A trace of another run among the ranks is named and left out; what only looks different stays."""

from __future__ import annotations

import numpy as np

from mfu_doctor.job.same_run import of_one_run
from mfu_doctor.job.summary import Collectives, Ledger, RankSummary
from mfu_doctor.result.report import Report
from mfu_doctor.result.run import RunInfo

NOW = 1_795_499_893_000_000_000
SECOND = 1_000_000_000
NONE = np.zeros(0, np.int64)
TABLE = np.zeros((0, 0), np.int64)


def summary(
    rank: int | None, *, world: int | None = 4, host: str | None = "node0", begin: int = NOW, trace: str = ""
) -> RankSummary:
    """A rank with one recorded step of a second."""
    return RankSummary(
        rank=rank,
        world_size=world,
        trace=trace or f"rank{rank}.json",
        host=host,
        report=Report(run=RunInfo(trace="t")),
        steps=(0,),
        step_start=np.array([begin, begin + SECOND]),
        steady=np.array([True]),
        collectives=Collectives(NONE, (), (), NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE),
        ledger=Ledger((), TABLE, TABLE, TABLE),
        reach=None,
        reach_reason=None,
        transfer_ns=np.zeros(0),
        mended=(),
        flops=np.zeros(1),
        options={},
    )


def ranks_of(*summaries: RankSummary) -> list[int | None]:
    return [found.rank for found in of_one_run(summaries).ranks]


def reasons_of(*summaries: RankSummary) -> list[str]:
    return [out.reason for out in of_one_run(summaries).left_out]


def test_ranks_of_one_run_are_in_order() -> None:
    assert ranks_of(summary(2), summary(0), summary(1)) == [0, 1, 2]
    assert not reasons_of(summary(2), summary(0), summary(1))


def test_a_rank_of_a_run_of_another_size_is_left_out() -> None:
    told = [summary(0), summary(1), summary(7, world=8)]
    assert ranks_of(*told) == [0, 1]
    assert reasons_of(*told) == ["it is of a run of 8 ranks, the newest trace is of one of 4"]


def test_a_run_again_with_fewer_ranks_is_the_one_that_is_meant() -> None:
    """The traces of ranks 2 and 3 of the first run are still there, and as many as those of the second."""
    told = [summary(0, world=2), summary(1, world=2), summary(2), summary(3), summary(4)]
    assert ranks_of(*told) == [0, 1]
    assert set(reasons_of(*told)) == {"it is of a run of 4 ranks, the newest trace is of one of 2"}


def test_of_two_runs_at_different_times_the_newest_is_meant() -> None:
    told = [summary(0), summary(1), *(summary(rank, begin=NOW - 90 * SECOND) for rank in (2, 3, 1))]
    assert ranks_of(*told) == [0, 1]


def test_a_trace_that_does_not_tell_the_size_stays() -> None:
    assert ranks_of(summary(0), summary(1, world=None)) == [0, 1]


def test_a_rank_beyond_the_size_of_the_run_is_left_out() -> None:
    assert reasons_of(summary(0), summary(1), summary(9, world=None)) == ["a run of 4 ranks has no rank 9"]


def test_a_rank_of_the_same_host_that_was_recorded_at_another_time_is_of_another_run() -> None:
    """A restarted job with fewer ranks leaves traces of the first one in its folder."""
    told = [summary(0), summary(1, begin=NOW + SECOND // 2), summary(2, begin=NOW - 90 * SECOND)]
    assert ranks_of(*told) == [0, 1]
    assert reasons_of(*told) == ["it was recorded 89.0 s apart from the newest trace of node0: it is of another run"]


def test_clocks_of_two_hosts_may_differ_by_more_than_a_step() -> None:
    assert ranks_of(summary(0), summary(1, host="node1", begin=NOW - 90 * SECOND)) == [0, 1]


def test_clocks_without_a_time_of_day_are_not_compared() -> None:
    assert ranks_of(summary(0, begin=5), summary(1, begin=500 * SECOND)) == [0, 1]


def test_the_first_of_two_traces_of_a_rank_is_kept() -> None:
    told = [summary(0, trace="new.json"), summary(1), summary(0, trace="old.json")]
    assert [found.trace for found in of_one_run(told).ranks] == ["new.json", "rank1.json"]
    assert reasons_of(*told) == ["another trace of rank 0 is read"]


def test_a_trace_of_nobody_is_left_out() -> None:
    assert "which rank it is" in reasons_of(summary(0), summary(None))[0]
