"""few-steps: too few steady steps are said with their number."""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import Schedule
from mfu_doctor.rules.trace.few_steps import few_steps
from tests.rules.judging import caution, found, run_of, silent
from tests.rules.trace.drawing import loop


def test_few_steps() -> None:
    assert caution(few_steps, run_of(loop((1_000,) * 3))) == "Only 1 analysed step, which need not be like the others"


def test_three_steady_steps_are_enough() -> None:
    """Of five steps the first is warm-up and the last has no end on the device."""
    silent(few_steps, run_of(loop((1_000,) * 5)))


def recorded(site: str, *, asked: int, active: int) -> Run:
    schedule = Schedule(skip=5, timed=5, warmup=3, active=asked)
    return run_of(loop((1_000,) * 3), site=site, asked=schedule, recorded=replace(schedule, active=active))


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
