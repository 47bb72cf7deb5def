"""Two real jobs: eight ranks of one step, and two ranks of 128. What is checked was calculated from the traces by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mfu_doctor.job.across.job import Job
from mfu_doctor.job.join.join import join
from mfu_doctor.job.rank.summarize import summarize
from mfu_doctor.job.summary import RankSummary
from mfu_doctor.result.job import BEFORE, STRAGGLER
from tests.traces import real_run

US = 1_000


def summaries(folder: str, ranks: int) -> list[RankSummary]:
    return [summarize(real_run(f"{folder}/rank{rank}"), rank=rank) for rank in range(ranks)]


@pytest.fixture(scope="module")
def dlrm() -> list[RankSummary]:
    return summaries("v100_dlrm_8ranks", 8)


def test_ends_agree_and_arrivals_do_not(dlrm: list[RankSummary]) -> None:
    """One machine and one clock: ends agree within 7 us, so no clock is changed."""
    job = Job(tuple(dlrm))
    assert len(job.matched) == 8
    assert job.matched.unmatched == {}
    assert job.clocks.resolution_ns is not None
    assert job.clocks.resolution_ns <= 7 * US
    assert (job.clocks.offset_ns == 0).all()


def test_who_came_last_and_how_late(dlrm: list[RankSummary]) -> None:
    job = Job(tuple(dlrm))
    last = job.table.rank[job.waits.last].tolist()
    arrive = np.sort(job.waits.arrive[job.matched.row].reshape(8, 8), axis=1)
    assert last == [7, 7, 7, 7, 7, 5, 5, 4]
    assert ((arrive[:, -1] - arrive[:, -2])[:4] // US).tolist() == [505, 509, 162, 124]
    assert ((arrive[:, -1] - arrive[:, 0])[[0, 7]] // US).tolist() == [7624, 885]


def test_lateness_from_before_the_step_blames_nobody_in_it(dlrm: list[RankSummary]) -> None:
    report = join(dlrm, source="v100_dlrm_8ranks")
    before = next(blame for blame in report.blames if blame.kind == BEFORE)
    assert before.ranks == (7,)
    assert before.cause == "before the recording"
    assert STRAGGLER not in {blame.kind for blame in report.blames}
    assert report.replay.error == pytest.approx(0, abs=0.03)
    assert report.missing == ()
    assert [found.rule for found in report.findings] == ["host-bound"]  # each rank lists uncompiled under it


def test_what_is_missing_of_two_of_128_ranks_is_said() -> None:
    report = join(summaries("two_ranks", 2), source="two_ranks")
    assert report.world_size == 128
    assert len(report.missing) == 126
    assert report.verdict is not None
    assert (
        "The 2 ranks that were read, of 128, wait for each other for less than 1 % of the step."
        in report.verdict.sentence
    )
    said = {caveat.kind: caveat.text for caveat in report.caveats}
    assert said["missing-ranks"].startswith("126 ranks of 128 are not there")
    assert "unmatched" in said  # the two traces were cut down: half of their collectives are in only one of them
    assert report.clock.resolution_s == pytest.approx(332e-6, rel=0.01)
    assert not any(group.complete for group in report.groups)
