"""What is asked of a run is computed once, and of each run for itself."""

from __future__ import annotations

from mfu_doctor.analysis.evidence.collectives import collectives_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.run import Run
from tests.rules.drawing import collective
from tests.timeline import Timeline


def run_with_a_collective() -> Run:
    drawn = Timeline()
    for _ in range(3):
        with drawn.step():
            collective(drawn, 100, size=1 << 20)
            drawn.sync()
    return Run(drawn.trace())


def test_every_rule_that_asks_gets_the_first_answer() -> None:
    run = run_with_a_collective()
    assert collectives_of(run) is not None
    assert collectives_of(run) is collectives_of(run)
    assert steady_of(run) is steady_of(run)


def test_another_run_has_answers_of_its_own() -> None:
    assert steady_of(run_with_a_collective()) is not steady_of(run_with_a_collective())
