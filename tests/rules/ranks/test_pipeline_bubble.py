"""The time in which a pipeline fills."""

from __future__ import annotations

import pytest

from mfu_doctor.rules.ranks.pipeline_bubble import pipeline_bubble
from tests.job.drawing import DrawnJob
from tests.rules.ranks.asking import found, job_of, saved_us, silent
from tests.rules.ranks.stages import two_stages


def test_few_micro_batches_are_priced_by_the_closed_form() -> None:
    """200 + 4 x 205 us. Rank 1 waits for 200 and rank 0 for 200 behind: of the step, 1 / (4 + 1) at most is the fill."""
    job = job_of(two_stages(200, 200))
    fault = found(pipeline_bubble, job)
    assert fault.fix.startswith("n_microbatches=8")
    waited = 200 / 2 + 0  # of rank 1 in its first receive; rank 0 waits in the collective
    assert saved_us(pipeline_bubble, job)[1] == pytest.approx(waited / 2, rel=0.05)


def test_many_micro_batches_fill_it() -> None:
    silent(pipeline_bubble, job_of(two_stages(200, 200, micro_batches=64)))


def test_a_job_without_stages_has_no_bubble() -> None:
    drawn = DrawnJob(2)
    drawn.step()
    drawn.work({0: 100, 1: 400})
    drawn.collective(50)
    silent(pipeline_bubble, job_of(drawn))
