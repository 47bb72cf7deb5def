"""profiler-inflation: profiled steps against un-profiled ones, or what was recorded."""

from __future__ import annotations

from mfu_doctor.rules.trace.profiler_inflation import profiler_inflation
from tests.rules.judging import caution, run_of, silent
from tests.rules.trace.drawing import loop
from tests.timeline import Timeline


def test_profiler_inflation_as_measured() -> None:
    run = run_of(loop(), timed_steps_s=(0.100, 0.101, 0.099), profiled_steps_s=(0.119, 0.120, 0.121))
    assert "20 %" in caution(profiler_inflation, run)
    sound = run_of(loop(), timed_steps_s=(0.100,), profiled_steps_s=(0.103,))
    silent(profiler_inflation, sound)


def test_steps_that_are_long_without_the_profiler_too_are_not_slowed_by_it() -> None:
    beside, profiled = (0.040, 0.2, 0.040, 0.2, 0.040), (0.041, 0.2, 0.2, 0.2, 0.2)
    run = run_of(loop((200_000,) * 7), timed_steps_s=beside, profiled_steps_s=profiled)
    assert run.mean_step.all_long
    silent(profiler_inflation, run)
    slowed = run_of(loop((200_000,) * 7), timed_steps_s=beside, profiled_steps_s=(0.050, 0.2, 0.2, 0.2, 0.2))
    assert "from 40.0 ms to 50.0 ms (quickest, 25 %)" in caution(profiler_inflation, slowed)


def test_profiler_inflation_as_suspected_where_stacks_were_recorded() -> None:
    drawn = Timeline()
    drawn.header["with_stack"] = 1
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=10, host=400)
    assert "with_stack" in caution(profiler_inflation, run_of(drawn))
