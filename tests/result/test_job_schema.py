"""The committed JSON Schema of a job's report describes what such reports contain, and a job has the form of a run."""

from __future__ import annotations

import json

import jsonschema
import pytest
from msgspec.structs import replace

from mfu_doctor.errors import DoctorError
from mfu_doctor.result.findings import Saving
from mfu_doctor.result.job import JobReport
from mfu_doctor.result.job_as_run import JOB_STEP, SPREAD, WAIT, as_run, rank_spread, rank_words
from mfu_doctor.result.schema import JOB_FILE, job_schema
from mfu_doctor.result.stored import from_json, is_of_job, to_json
from tests.sample_job import LATE, STEP, job


def test_the_committed_schema_is_up_to_date() -> None:
    assert JOB_FILE.read_bytes() == job_schema(), "run: python -m mfu_doctor.result.schema"


@pytest.mark.parametrize("ranks", [2, 8])
def test_reports_obey_the_schema_and_come_back_unchanged(ranks: int) -> None:
    data = to_json(job(ranks))
    jsonschema.validate(json.loads(data), json.loads(job_schema()), cls=jsonschema.Draft202012Validator)
    assert is_of_job(data)
    assert from_json(data, JobReport) == job(ranks)


def test_a_report_of_another_schema_is_refused() -> None:
    data = json.loads(to_json(job(2)))
    data["schema"] = 7
    with pytest.raises(DoctorError, match="schema 7, this version reads 1"):
        from_json(json.dumps(data), JobReport)


def test_a_job_in_the_form_of_a_run_keeps_its_numbers() -> None:
    made, run = job(8), as_run(job(8))
    assert run.step_time_s == made.step_time_s
    assert run.breakdown == made.breakdown
    assert [d.rule for d in run.failed] == [found.rule for found in made.findings]
    assert run.failed[0].summary.startswith("rank 5 comes")
    other = replace(made.findings[1], ranks=(2, 3), everywhere=Saving(low=0.05, mid=0.06, high=0.07))
    told = as_run(replace(made, findings=(other,))).failed[0]
    assert told.summary == "Ranks 2-3: the CPU launches kernels too slowly"
    assert told.detail == "mended on all ranks it saves 60 ms"
    assert run.structure[JOB_STEP] == pytest.approx(STEP, rel=0.01)
    assert run.structure[WAIT] == pytest.approx(LATE * 7 / 8 / run.structure[JOB_STEP])


def test_the_spread_is_what_the_slowest_rank_works_more_than_the_mean() -> None:
    """Seven ranks wait 43 ms of a step of 412, so the one that never waits works 43 * 7 / 8 ms more than the mean."""
    assert rank_spread(job(8)) == pytest.approx(LATE * 7 / 8 / STEP, rel=0.05)
    assert as_run(job(8)).structure[SPREAD] == rank_spread(job(8))


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        ((), "all ranks"),
        ((7,), "rank 7"),
        ((0, 1, 2), "ranks 0-2"),
        ((0, 1, 2, 5), "ranks 0-2 and 5"),
        ((1, 3, 5), "ranks 1, 3 and 5"),
        ((1, 3, 5, 7, 9), "5 ranks"),
    ],
)
def test_ranks_read_as_people_write_them(ranks: tuple[int, ...], words: str) -> None:
    assert rank_words(ranks) == words
