"""A stage that is longer than the others."""

from __future__ import annotations

import pytest

from mfu_doctor.rules.ranks.stage_imbalance import stage_imbalance
from tests.rules.ranks.asking import found, job_of, saved_us, silent
from tests.rules.ranks.stages import two_stages


def test_the_longest_stage_is_named_and_priced() -> None:
    """100 + 4 x 305 us, alike 200 + 4 x 205."""
    job = job_of(two_stages(100, 300))
    fault = found(stage_imbalance, job)
    assert fault.summary == "Stage 1 of 2 has 150 % of the mean stage's time: 1.20 ms a step, stage 0 has 400 us"
    assert fault.fix == "# move layers from stage 1 to stage 0"
    assert saved_us(stage_imbalance, job)[1] == pytest.approx(300)


def test_equal_stages_are_fine() -> None:
    silent(stage_imbalance, job_of(two_stages(200, 200)))
