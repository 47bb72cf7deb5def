"""few-steps: too few steady steps are said with their number."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.profiler.limits import StepSize, steps_within_budget
from mfu_doctor.capture.profiler.session import Options
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.facts import Schedule
from mfu_doctor.facts.whole_run import WholeRun
from mfu_doctor.rules.trace.few_steps import few_steps
from tests.rules.judging import caution, found, run_of, silent
from tests.rules.trace.drawing import loop


def test_few_steps() -> None:
    assert caution(few_steps, run_of(loop((1_000,) * 3))) == "Only 1 analysed step, which need not be like the others"


def test_three_steady_steps_are_enough() -> None:
    """Of five steps the first is warm-up and the last has no end on the device."""
    silent(few_steps, run_of(loop((1_000,) * 5)))


def recorded(site: str, *, asked: int, active: int, **facts: Any) -> Run:
    schedule = Schedule(skip=5, timed=5, warmup=3, active=asked)
    return run_of(loop((1_000,) * 3), site=site, asked=schedule, recorded=replace(schedule, active=active), **facts)


def test_the_remedy_is_of_the_recorder_in_use() -> None:
    """A recording of mfu-doctor was once told to use torch.profiler.schedule."""
    assert found(few_steps, run_of(loop((1_000,) * 3))).fix.startswith(
        "torch.profiler.schedule(wait=5, warmup=2, active=6)"
    )
    assert found(few_steps, recorded("train.py", asked=2, active=2)).fix == "mfu-doctor run --active 6 train.py"
    assert found(few_steps, recorded("train.py:41", asked=2, active=2)).fix == "mfu_doctor.profile(active=6)"


def test_a_program_that_ended_too_soon_has_to_make_more_steps() -> None:
    fix = found(few_steps, recorded("train.py", asked=5, active=1)).fix
    assert fix == "# let the program make more steps: with 19 or more, 5 are recorded"
    short = WholeRun(wall_s=1.0, ended=True, steps=14, steps_s=0.9)
    assert found(few_steps, recorded("train.py", asked=5, active=1, whole_run=short)).fix == fix


def test_a_program_of_short_epochs_has_to_say_where_the_recording_begins() -> None:
    """It made 125 steps in epochs of 8 batches and was told to make 19 or more."""
    long = WholeRun(wall_s=9.0, ended=True, steps=125, steps_s=8.0)
    fix = found(few_steps, recorded("train.py", asked=5, active=2, whole_run=long)).fix
    assert fix == "mfu-doctor run --at-step 13 train.py"
    fix = found(few_steps, recorded("train.py:41", asked=5, active=2, whole_run=long)).fix
    assert fix == "mfu_doctor.profile(at_step=13)"


def test_steps_too_large_to_record_more_of_them_say_so_and_ask_for_nothing() -> None:
    notes = Notes()
    options = Options(cuda=False)
    assert steps_within_budget(5, StepSize(events=250_000), options, notes) == 1
    run = recorded("train.py", asked=5, active=1, notes=tuple(notes.said))
    said = found(few_steps, run)
    assert said.summary.endswith("; 1 of 5 steps recorded: a step has about 250000 events, at most 300000 are recorded")
    assert not said.fix
    report = diagnose_run(run).report
    assert sum("250000" in caveat.text for caveat in report.caveats) == 1
