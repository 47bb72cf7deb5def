"""What a job can save: no more than its ranks can, but for waits that shrink; and no step below the busiest stream of a rank."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfu_doctor.analysis.replay.edits import Change, DropWaits, ScaleHost
from mfu_doctor.analysis.replay.limited import limited
from mfu_doctor.analysis.replay.walk import walk
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.job.across.edits import JobEdit
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.join.join import join
from mfu_doctor.job.rank.summarize import summarize
from mfu_doctor.job.summary import RankSummary
from mfu_doctor.result.findings import Saving
from mfu_doctor.rules.contract import Finding, Rule
from tests.rules.drawing import collective, compute, wait_for_collectives
from tests.timeline import Timeline

US, STEPS = 1_000, 6
BEGIN_NS = 1_795_499_893_000_000_000
CLOSE = 0.002  # a fix is made in part by halves: a thousandth of it is left open


def ranks_of(body: Callable[[Timeline, int], None], ranks: int = 2) -> list[Run]:
    """Ranks of one job with so many equal steps each; `body` draws what a rank does in a step."""
    return [Run(_rank(body, rank, ranks).trace()) for rank in range(ranks)]


def _rank(body: Callable[[Timeline, int], None], rank: int, ranks: int) -> Timeline:
    drawn = Timeline()
    drawn.header["distributedInfo"] = {"backend": "nccl", "rank": rank, "world_size": ranks}
    drawn.header["baseTimeNanoseconds"] = BEGIN_NS
    for _ in range(STEPS):
        with drawn.step():
            body(drawn, rank)
    met = [event for event in drawn.events if "Collective name" in event.get("args", {})]
    for number, event in enumerate(met):
        event["args"] |= {"Process Group Name": "0", "Process Group Ranks": str(list(range(ranks))), "Seq": number}
    return drawn


def finds(change: Callable[[Run], Change], at_most: float | None = None) -> Rule:
    """A rule that finds the same on every rank."""

    def judge(run: Run) -> Finding:
        return Finding(summary="the host is slow", fix="pass", change=change(run), at_most=at_most)

    return Rule("host-bound", "HO001", "the device waits for the CPU", (), judge, "")


def without_host(run: Run) -> Change:
    """No host work at all."""
    everything = Intervals(run.steps.start[:1], run.steps.end[-1:])
    return Change.exactly(ScaleHost(everything, 0.05))


def judged(runs: list[Run], rule: Rule) -> tuple[list[RankSummary], Saving]:
    """The ranks, and what the job saves if the fault is mended on all of them."""
    summaries = [summarize(run, rules=[rule]) for run in runs]
    (found,) = join(summaries, source="runs/7", rules=()).findings
    assert found.saving is not None
    return summaries, found.saving


def saved_alone(summary: RankSummary) -> float:
    found = summary.report.diagnosis("host-bound")
    assert found is not None
    assert found.saving is not None
    return found.saving.mid


def host_bound(drawn: Timeline, rank: int) -> None:
    """2 ms of Python, a product, and a collective that nobody is late for: without its Python the step is 600 us."""
    drawn.python(2_000)
    compute(drawn, 400)
    collective(drawn, 100, size=1 << 20, ranks=2)
    wait_for_collectives(drawn, 50)


def test_a_job_whose_ranks_do_not_wait_saves_what_they_save() -> None:
    """Each rank names a third of its step as lost: a job of them promised all that replay could take off."""
    summaries, saving = judged(ranks_of(host_bound), finds(without_host, at_most=1 / 3))
    alone = [saved_alone(one) for one in summaries]
    assert alone == pytest.approx([summaries[0].report.step_s / 3] * 2)
    assert saving.mid == pytest.approx(alone[0], rel=CLOSE)
    assert saving.high == pytest.approx(alone[0], rel=CLOSE)


def test_a_job_saves_more_than_its_ranks_only_by_waits() -> None:
    """Rank 0 computes 2 ms more before a collective and rank 1 after it: each waits for the other, and alone saves half.

    In a step of 5.1 ms both have 2 ms of Python, of which the other rank waits for one half each time.
    """

    def by_turns(drawn: Timeline, rank: int) -> None:
        for first in (True, False):
            late = (rank == 0) is first
            if late:
                drawn.python(2_000)
            compute(drawn, 500)
            drawn.sync()
            collective(drawn, 100 if late else 2_100, size=1 << 20, ranks=2)
            wait_for_collectives(drawn, 50)

    summaries, saving = judged(ranks_of(by_turns), finds(without_host))
    one, other = (saved_alone(summary) for summary in summaries)
    assert max(one, other) < saving.mid <= one + other + 100e-6
    job = Job(tuple(summaries))
    for place, summary in enumerate(summaries):
        edit = JobEdit({place: summary.mended[0].mid})
        assert 1.0 - job.replay.left(edit) <= saved_alone(summary) / job.step_s + CLOSE


WORK = st.sampled_from(["compute", "collective", "wait", "sync", "python"])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(WORK, st.integers(1, 900)), min_size=1, max_size=10), st.floats(0.05, 0.9))
def test_a_rank_never_saves_more_than_is_lost_and_what_it_waits(work: list[tuple[str, int]], at_most: float) -> None:
    """Whatever its collectives take then: what they take less was waiting."""

    def body(drawn: Timeline, rank: int) -> None:
        compute(drawn, 300)
        for kind, us in work:
            match kind:
                case "compute":
                    compute(drawn, us)
                case "collective":
                    collective(drawn, us, size=1 << 20, ranks=2)
                case "wait":
                    wait_for_collectives(drawn, us)
                case "sync":
                    drawn.sync()
                case "python":
                    drawn.python(us)

    summary = summarize(ranks_of(body)[0], rules=[finds(without_host, at_most)])
    if not summary.mended or summary.reach is None:
        return
    reach, mended = summary.reach, summary.mended[0].mid
    base = reach.mean_step_ns(reach.alone(reach.lasts_ns))
    for left in (1.0, 0.5, 0.0):
        lasts = reach.lasts_ns * left
        waits = float((reach.lasts_ns - lasts)[reach.inside].sum()) / sum(reach.weight)
        saved = base - mended.mean_step_ns(mended.alone(lasts))
        assert saved <= (at_most * (1 + CLOSE)) * base + waits + 1.0


@settings(max_examples=20, deadline=None)
@given(st.floats(0.0, 1.2))
def test_a_fix_in_part_saves_what_it_may(part: float) -> None:
    run = ranks_of(host_bound)[0]
    edited = run.replay.edited(without_host(run).mid)
    most = run.replay.base_ns - walk(edited)
    found = limited(run.replay.timeline, edited, run.replay.base_ns - part * most)
    saved = run.replay.base_ns - walk(found)
    assert saved <= part * most + 1.0
    assert saved == pytest.approx(min(part, 1.0) * most, abs=most * CLOSE)


def copying(drawn: Timeline, rank: int) -> None:
    """300 us of products beside 800 us of copies on another stream (rank 0: half of them), each step waiting for all."""
    compute(drawn, 300)
    name, us = "Memcpy DtoH (Device -> Pinned)", 400 if rank == 0 else 800
    drawn.op("aten::copy_", kernel=us, kernel_name=name, cat="gpu_memcpy", stream=21)
    collective(drawn, 100, size=1 << 20, ranks=2)
    drawn.sync("cudaDeviceSynchronize")
    drawn.python(900 if rank == 0 else 500)


def without_waits(run: Run) -> Change:
    everything = Intervals(run.steps.start[:1], run.steps.end[-1:])
    return Change.exactly(DropWaits(run.host.blocking_rows), ScaleHost(everything, 0.05))


def test_no_step_of_a_job_is_below_the_busiest_stream_of_any_rank() -> None:
    """The copies of rank 1 follow each other: rank 0, which meets it in each step, is then no quicker."""
    summaries = [summarize(run, rules=[finds(without_waits)]) for run in ranks_of(copying)]
    job = Job(tuple(summaries))
    assert job.replay.base_ns == pytest.approx([1_300 * US] * 2, rel=0.05)
    steps = job.replay.steps_ns(JobEdit({place: one.mended[0].mid for place, one in enumerate(summaries)}))
    assert float(steps.mean()) == pytest.approx(800 * US, rel=0.01)
    assert job.replay.steps_ns(JobEdit()) == pytest.approx(job.replay.base_ns)


def test_waiting_for_others_keeps_no_stream_busy() -> None:
    """Rank 1 waits 2 ms of each step in a collective: if rank 0 is not late any more, that is no floor."""

    def body(drawn: Timeline, rank: int) -> None:
        if rank == 0:
            drawn.python(2_000)
        compute(drawn, 300)
        collective(drawn, 100 if rank == 0 else 2_100, size=1 << 20, ranks=2)
        wait_for_collectives(drawn, 50)

    summaries = [summarize(run, rules=[finds(without_host)]) for run in ranks_of(body)]
    job = Job(tuple(summaries))
    steps = job.replay.steps_ns(JobEdit({0: summaries[0].mended[0].mid}))
    assert (steps < 1_000 * US).all()
    busy = [one.reach.busy for one in summaries if one.reach is not None]
    assert [found.least_ns(np.zeros(len(found.stream))) for found in busy if found is not None] == pytest.approx(
        [350 * US] * 2
    )
