"""The what-if questions of pipelines: a small table calculated by hand, and two production jobs with published answers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from mfu_doctor.job.across.edits import JobEdit, together
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.patterns import patterns_of
from mfu_doctor.job.across.stages import stage_times
from mfu_doctor.job.across.what_if import like_the_others
from mfu_doctor.result.job import PIPELINE, STRAGGLER
from mfu_doctor.rules.job_contract import JobFault
from mfu_doctor.rules.ranks.stage_imbalance import stage_imbalance
from tests.job.pipelines import COMPUTE, Op, Steps, Worker, summaries_of, with_reaches
from tests.traces import real_trace

JOBS = "whatif_jobs"
MOST_STEPS = 3  # of a real job: each is replayed alone, and all are alike


def ideal_s(job: Mapping[Worker, Steps]) -> float:
    """The step if every operation of a type took as long as they do on average, and every transfer as the median one."""
    durations = defaultdict(list)
    for steps in job.values():
        for op in (op for ops in steps for op in ops if op.type in COMPUTE):
            durations[op.type].append(op.duration)
    takes = {name: fmean(values) for name, values in durations.items()}
    summaries = summaries_of(job)
    recorded = Job(tuple(summaries))
    job_ideal = Job(tuple(with_reaches(summaries, job, takes)))
    table, transfer = recorded.table, recorded.replay.transfer.copy()
    names = np.array([group.description if group.name != "pp" else f"pp {group.description}" for group in table.groups])
    name = names[table.group]
    for one in np.unique(name).tolist():
        transfer[name == one] = np.median(transfer[name == one])
    return float(job_ideal.replay.steps_ns(JobEdit(transfer=transfer)).mean()) / 1e9


def small() -> dict[Worker, Steps]:
    """Two stages, two data-parallel ranks, two micro-batches; forwards only. Stage 1 takes 3 s a micro-batch, stage 0 one.

    Stage 0 sends at 1 and 2 s; stage 1 computes from 1 to 4 and from 4 to 7 s; then all reduce for 1 s: a step of 8 s.
    """
    first = [
        Op("forward-compute", 0, 0.0, 1.0),
        Op("forward-send", 0, 1.0, 0.0),
        Op("forward-compute", 1, 1.0, 1.0),
        Op("forward-send", 1, 2.0, 0.0),
        Op("optimizer-clip-main-grad", 0, 2.0, 6.0),
    ]
    second = [
        Op("forward-recv", 0, 0.0, 1.0),
        Op("forward-compute", 0, 1.0, 3.0),
        Op("forward-recv", 1, 1.0, 1.0),
        Op("forward-compute", 1, 4.0, 3.0),
        Op("optimizer-clip-main-grad", 0, 7.0, 1.0),
    ]
    return {(dp, stage): [ops, ops] for dp in range(2) for stage, ops in enumerate((first, second))}


def test_the_small_table_is_replayed_as_recorded() -> None:
    job = Job(tuple(summaries_of(small())))
    assert job.replay.base_ns / 1e9 == pytest.approx([8, 8, 8, 8])


def test_the_small_table_with_equal_stages() -> None:
    """Every forward takes 2 s: stage 1 begins at 2, then 4, ends at 6; and 1 s to reduce."""
    assert ideal_s(small()) == pytest.approx(7)


def test_the_long_stage_of_the_small_table_is_named() -> None:
    fault = stage_imbalance.judge(Job(tuple(summaries_of(small()))))
    assert isinstance(fault, JobFault)
    assert fault.fix == "# move layers from stage 1 to stage 0"
    assert fault.late == (2, 3)


def published(name: str) -> tuple[dict[Worker, Steps], dict[str, Any]]:
    """A production job, and what its authors' simulator says of it."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow reads the published tables: it is not installed")
    answer = json.loads(real_trace(f"{JOBS}/mw-{name}.json").read_text(encoding="utf-8"))
    table = parquet.read_table(real_trace(f"{JOBS}/trace-{name}.parquet")).to_pydict()
    found: dict[Worker, dict[int, list[Op]]] = defaultdict(lambda: defaultdict(list))
    columns = ("dp_rank", "stage", "step", "optype", "seq_id", "start_ts", "duration")
    for dp, stage, step, kind, seq, start, duration in zip(*(table[name] for name in columns), strict=True):
        found[dp, stage][step].append(Op(kind, seq, start, duration))
    return {worker: list(steps.values()) for worker, steps in found.items()}, answer


@pytest.mark.parametrize("name", ["ST", "AR"])
def test_the_ideal_step_of_production_jobs_is_the_published_one(name: str) -> None:
    job, answer = published(name)
    recorded = fmean(max(op.start + op.duration for op in ops) for ops in job[0, 0])
    ideal = ideal_s(job)
    assert ideal == pytest.approx(answer["tideal"], rel=0.01)
    assert recorded / ideal == pytest.approx(answer["tori"] / answer["tideal"], rel=0.03)


def test_the_slow_worker_is_named() -> None:
    """One worker was slowed on purpose: without it, all of the slowdown goes (M_W is 1.00, M_S 0.00)."""
    job, _ = published("AR")
    cut = Job(tuple(summaries_of({worker: steps[:MOST_STEPS] for worker, steps in job.items()})))
    found = {pattern.kind: pattern for pattern in patterns_of(cut)}
    slowest = max(job, key=lambda worker: sum(op.duration for op in job[worker][0] if op.type in COMPUTE))
    place = sorted(job, key=lambda worker: (worker[1], worker[0])).index(slowest)
    assert found[STRAGGLER].late == (place,)


def test_the_long_last_stage_is_named() -> None:
    job, _ = published("ST")
    cut = Job(tuple(summaries_of({worker: steps[:MOST_STEPS] for worker, steps in job.items()})))
    assert stage_times(cut).argmax() == 3
    assert PIPELINE in {pattern.kind for pattern in patterns_of(cut)}
    fault = stage_imbalance.judge(cut)
    assert isinstance(fault, JobFault)
    assert fault.summary.startswith("Stage 3 of 4 has")


def slow_backwards() -> dict[Worker, Steps]:
    """Two stages, two data-parallel ranks, three micro-batches. On the first stage all take 1 s, but the backwards of
    its second rank 4 s. A receive is posted with a send, beside what is computed; the second stage answers after 1 s.
    """

    def first(sends: tuple[float, ...], backward: float, begins: tuple[float, ...], step: float) -> list[Op]:
        forwards = [Op("forward-compute", i, at - 1, 1.0) for i, at in enumerate(sends)]
        backwards = [Op("backward-compute", i, at, backward) for i, at in enumerate(begins)]
        posted = (sends[1], sends[2], begins[1] + backward)
        receives = [Op("backward-recv", i, at, 0.0) for i, at in enumerate(posted)]
        end = begins[-1] + backward
        given = [Op("forward-send", i, at, 0.0) for i, at in enumerate(sends)]
        return [*forwards, *backwards, *receives, *given, Op("optimizer-clip-main-grad", 0, end, step - end)]

    def second(sends: tuple[float, ...], step: float) -> list[Op]:
        taken = [Op("forward-recv", i, at, 0.0) for i, at in enumerate(sends)]
        forwards = [Op("forward-compute", i, at, 0.5) for i, at in enumerate(sends)]
        backwards = [Op("backward-compute", i, at + 0.5, 0.5) for i, at in enumerate(sends)]
        given = [Op("backward-send", i, at + 1, 0.0) for i, at in enumerate(sends)]
        end = sends[-1] + 1
        return [*taken, *forwards, *backwards, *given, Op("optimizer-clip-main-grad", 0, end, step - end)]

    steps = {
        (0, 0): first((1.0, 2.0, 4.0), 1.0, (2.0, 4.0, 5.0), 16.0),
        (1, 0): first((1.0, 2.0, 7.0), 4.0, (2.0, 7.0, 11.0), 16.0),
        (0, 1): second((1.0, 2.0, 4.0), 16.0),
        (1, 1): second((1.0, 2.0, 7.0), 16.0),
    }
    return {worker: [ops, ops] for worker, ops in steps.items()}


def test_a_slow_worker_like_its_peers_is_replayed_operation_by_operation() -> None:
    """Its backwards then take 1 s: begin at 2, 4 and 5, end at 6; and 1 s to reduce. The replay posts receives sooner."""
    job = Job(tuple(summaries_of(slow_backwards())))
    assert job.replay.base_ns / 1e9 == pytest.approx([16] * 4)
    assert job.replay.steps_ns(like_the_others(job, (1,)).mid) / 1e9 == pytest.approx([7] * 4)


def test_a_slow_worker_is_mended_together_with_a_finding_of_a_rank() -> None:
    """The finding changes nothing here: with it the job is as fast as without. A plan lost the one for the other."""
    job = Job(tuple(summaries_of(slow_backwards())))
    reach = job.summaries[0].reach
    assert reach is not None
    both = together([like_the_others(job, (1,)).mid, JobEdit(reach={0: reach})])
    assert job.replay.steps_ns(both) / 1e9 == pytest.approx([7] * 4)


def test_a_production_job_without_its_slow_worker_is_ideal() -> None:
    """All of its slowdown is that worker's (M_W is 1.00), so its step without it is the published ideal one."""
    job, answer = published("AR")
    cut = Job(tuple(summaries_of({worker: steps[:MOST_STEPS] for worker, steps in job.items()})))
    left_s = float(cut.replay.steps_ns(like_the_others(cut, (0,)).mid).mean()) / 1e9
    assert left_s == pytest.approx(answer["tideal"], rel=0.03)
