"""A rank that waits goes on before gloo's thread writes down that the collective is over: its wait is still not its own work."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.replay.timeline import build_timeline
from mfu_doctor.analysis.replay.walk import walk
from mfu_doctor.analysis.run import Run
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.ranks import find_ranks
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.what_if import like_the_others
from mfu_doctor.job.diagnose import read_ranks
from tests.job.drawn_traces import BASE_NS, STEPS
from tests.timeline import Timeline

LATE, TRANSFER, WRITTEN_LATE = 50_000, 400, 2_000  # us
ALIKE = 10 + 20_000 + 10 + TRANSFER + 10 + 1_800 + 400 + 200  # of a step that waits for nobody
US = 1000


def draw_rank(rank: int, written_late: int = WRITTEN_LATE) -> Timeline:
    """Rank 1 loads for longer, rank 0 waits for it; in every second step the wait is written down as over too late."""
    drawn = Timeline(device=None)
    drawn.header["distributedInfo"] = {"backend": "gloo", "rank": rank, "world_size": 2}
    drawn.header["baseTimeNanoseconds"] = BASE_NS
    for number in range(STEPS):
        with drawn.step():
            drawn.fetch(10 + (LATE if rank == 1 else 0))
            drawn.op("aten::mm", host=20_000)
            drawn.op("c10d::allreduce_", host=10)
            waits = TRANSFER + (LATE if rank == 0 else 0)
            late = written_late if rank == 0 and number % 2 else 0
            drawn.add("user_annotation", "gloo:all_reduce", drawn.now, waits + late, tid=900)
            drawn.python(waits + 10)
            drawn.op("aten::add_", host=1_800)
            drawn.python(400)  # the end is written down in here
            drawn.op("aten::mm", host=200)
    return drawn


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("job")
    for rank in range(2):
        path = folder / f"rank{rank}.pt.trace.json.gz"
        path.write_bytes(gzip.compress(json.dumps(draw_rank(rank).json()).encode()))
    summaries, _ = read_ranks(find_ranks([str(folder)]), Overrides(), None, None, None)
    return Job(tuple(sorted(summaries, key=lambda one: one.rank or 0)), str(folder))


def test_without_the_late_loader_no_rank_waits(job: Job) -> None:
    assert job.replay.base_ns == pytest.approx(job.replay.measured_ns, rel=1e-6)
    assert job.replay.steps_ns(like_the_others(job, (1,)).mid) == pytest.approx([ALIKE * US] * 2, rel=0.02)


def test_a_wait_is_no_host_work_whenever_its_end_is_written_down() -> None:
    """Of host work there is the same before every call, and a step without the wait is as much shorter."""
    for late in (0, WRITTEN_LATE):
        run = Run(draw_rank(0, late).trace())
        timeline = build_timeline(run.work, run.host)
        assert walk(timeline) == pytest.approx(timeline.measured_ns)
        calls = timeline.calls
        assert calls.gap.max() < 1_000 * US
        none = np.where(calls.cost >= LATE * US, calls.cost - LATE * US, calls.cost)
        without = walk(replace(timeline, calls=replace(calls, cost=none)))
        assert without == pytest.approx(ALIKE * US, rel=1e-6)


def test_a_collective_beside_work_holds_back_nothing() -> None:
    """It ends soon after a call that came late, but began long before that call's gap: nobody waited for it."""
    drawn = Timeline(device=None)
    for _ in range(STEPS):
        with drawn.step():
            drawn.op("c10d::allreduce_", host=10)
            drawn.add("user_annotation", "gloo:all_reduce", drawn.now, 5_000 + 1_000 + 200, tid=900)
            drawn.op("aten::mm", host=5_000)
            drawn.python(1_000)
            drawn.op("aten::mm", host=1_000)
    run = Run(drawn.trace())
    assert (build_timeline(run.work, run.host).calls.gap >= 0).all()
