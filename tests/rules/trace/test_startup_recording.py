"""startup-recording: the first use of a GPU is no step, and no advice is given on it."""

from __future__ import annotations

import pytest

from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.result.caveats import ADVICE
from mfu_doctor.rules.trace.startup_recording import startup_recording
from tests.rules.judging import caution, run_of, silent
from tests.timeline import Timeline


def program(*calls: tuple[str, int], steps: int = 0) -> Timeline:
    """Calls of so many microseconds and a kernel after each, then steps."""
    drawn = Timeline()
    for name, us in calls:
        drawn.call(name, us)
        drawn.op("aten::mm", kernel=500)
        drawn.sync()
    for _ in range(steps):
        with drawn.step():
            drawn.op("aten::mm", kernel=500)
    return drawn


FIRST = (("cudaFree", 600), ("cudaMalloc", 8_000_000), ("cudaStreamCreateWithFlags", 4_000_000))


def test_first_allocations_and_launches_are_start_up() -> None:
    said = caution(startup_recording, run_of(program(("cudaMalloc", 600), *FIRST)))
    assert said.startswith("This recording is start-up: 100 % of its 12.0 s")
    assert "first allocations (8.00 s) and first launches (4.00 s)" in said


def test_no_advice_is_given_on_it() -> None:
    report = diagnose_run(run_of(program(("cudaMalloc", 600), *FIRST))).report
    assert report.failed == ()
    assert report.plan.steps == ()
    assert report.caveats[0].spoils == ADVICE
    assert report.verdict is not None
    assert "No saving can be predicted: only the start of the program was recorded." in report.verdict.sentence
    assert "wait=10" in str(report.caveats[0].remedy)


@pytest.mark.parametrize(
    "drawn",
    [
        program(("cudaMalloc", 900), ("cudaMalloc", 900)),  # no call is long
        program(("cudaMalloc", 600), ("cudaStreamSynchronize", 8_000_000)),  # it waits
        program(*FIRST, steps=6),  # the steps come after it
    ],
)
def test_a_step_is_no_start_up(drawn: Timeline) -> None:
    silent(startup_recording, run_of(drawn))
