"""unstable-steps: step times that vary."""

from __future__ import annotations

from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.trace.unstable_steps import unstable_steps
from tests.rules.judging import caution, run_of, silent
from tests.rules.trace.drawing import loop


def test_unstable_steps() -> None:
    # each window reaches from its first kernel to the next step's, so lengths alternate like the kernels
    assert "Step times vary by" in caution(unstable_steps, run_of(loop((1_000, 1_500) * 4)))
    assert isinstance(unstable_steps.judge(run_of(loop((1_000,) * 3))), Skip)


def test_steps_that_differ_by_a_few_percent_are_stable() -> None:
    silent(unstable_steps, run_of(loop((1_000, 1_050) * 4)))
