"""few-steps: too few steady steps are said with their number."""

from __future__ import annotations

from mfu_doctor.rules.trace.few_steps import few_steps
from tests.rules.judging import caution, run_of, silent
from tests.rules.trace.drawing import loop


def test_few_steps() -> None:
    assert caution(few_steps, run_of(loop((1_000,) * 3))) == "Only 1 analysed step"


def test_three_steady_steps_are_enough() -> None:
    """Of five steps the first is warm-up and the last has no end on the device."""
    silent(few_steps, run_of(loop((1_000,) * 5)))
