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


def test_profiler_inflation_as_suspected_where_stacks_were_recorded() -> None:
    drawn = Timeline()
    drawn.header["with_stack"] = 1
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=10, host=400)
    assert "with_stack" in caution(profiler_inflation, run_of(drawn))
