"""The cautions: each fires on a trace with its fault and is silent on a sound one."""

from __future__ import annotations

from dataclasses import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.contract import Rule, Skip
from mfu_doctor.rules.trace.dropped_events import dropped_events
from mfu_doctor.rules.trace.few_steps import few_steps
from mfu_doctor.rules.trace.missing_gpu_events import missing_gpu_events
from mfu_doctor.rules.trace.partial_flop_count import partial_flop_count
from mfu_doctor.rules.trace.profiler_inflation import profiler_inflation
from mfu_doctor.rules.trace.unknown_peak import unknown_peak
from mfu_doctor.rules.trace.unstable_steps import unstable_steps
from mfu_doctor.rules.trace.warmup_in_window import warmup_in_window
from mfu_doctor.trace import Problem
from tests.rules.judging import found, run_of
from tests.timeline import Timeline

EVERY = (
    dropped_events,
    few_steps,
    missing_gpu_events,
    partial_flop_count,
    profiler_inflation,
    unknown_peak,
    unstable_steps,
    warmup_in_window,
)


def loop(lengths: tuple[int, ...] = (1_000,) * 7) -> Timeline:
    """One matmul a step, of these lengths in microseconds."""
    drawn = Timeline()
    for us in lengths:
        with drawn.step():
            drawn.op("aten::mm", kernel=us, dims=[[512, 512], [512, 512]], types=["float", "float"])
    return drawn


def test_a_sound_trace_has_no_caution() -> None:
    run = run_of(loop())
    assert [rule.name for rule in EVERY if rule.judge(run) is not None] == []


def test_cautions_save_nothing_and_are_marked_as_such() -> None:
    assert all(rule.caution for rule in EVERY)
    assert len({rule.code for rule in EVERY}) == len(EVERY)


def caution(rule: Rule, run: Run) -> str:
    finding = found(rule, run)
    assert finding.change is None
    return finding.summary


def test_dropped_events() -> None:
    trace = replace(loop().trace(), problems=(Problem("truncated", "the file ends inside event 900", 0),))
    assert caution(dropped_events, Run(trace)) == "The end of the trace is missing"
    repaired = replace(trace, problems=(Problem("events-repaired", "an unescaped quote", 3),))
    assert dropped_events.judge(Run(repaired)) is None


def test_missing_gpu_events() -> None:
    drawn = loop()
    lost = [e for e in drawn.events if e["cat"] == "kernel"][::2]
    drawn.events = [e for e in drawn.events if e not in lost]
    assert "have no kernel" in caution(missing_gpu_events, run_of(drawn))


def test_a_host_whose_kernels_were_not_recorded_at_all() -> None:
    drawn = loop()
    drawn.events = [e for e in drawn.events if e["cat"] != "kernel"]
    assert caution(missing_gpu_events, run_of(drawn)).startswith("100 %")


def test_few_steps() -> None:
    assert caution(few_steps, run_of(loop((1_000,) * 3))) == "Only 1 steady step"


def test_unstable_steps() -> None:
    # each window reaches from its first kernel to the next step's, so lengths alternate like the kernels
    assert "Step times vary by" in caution(unstable_steps, run_of(loop((1_000, 1_500) * 4)))
    assert isinstance(unstable_steps.judge(run_of(loop((1_000,) * 3))), Skip)


def test_warmup_in_window() -> None:
    text = caution(warmup_in_window, run_of(loop((1_000, 5_000, 1_000, 1_000, 1_000, 1_000, 1_000))))
    assert "warm-up" in text
    assert "5.00 ms" in text


def test_a_slow_step_later_is_no_warmup() -> None:
    assert warmup_in_window.judge(run_of(loop((1_000, 1_000, 1_000, 5_000, 1_000, 1_000, 1_000)))) is None


def test_profiler_inflation_as_measured() -> None:
    run = run_of(loop(), timed_steps_s=(0.100, 0.101, 0.099), profiled_steps_s=(0.119, 0.120, 0.121))
    assert "20 %" in caution(profiler_inflation, run)
    sound = run_of(loop(), timed_steps_s=(0.100,), profiled_steps_s=(0.103,))
    assert profiler_inflation.judge(sound) is None


def test_profiler_inflation_as_suspected_where_stacks_were_recorded() -> None:
    drawn = Timeline()
    drawn.header["with_stack"] = 1
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=10, host=400)
    assert "with_stack" in caution(profiler_inflation, run_of(drawn))


def test_partial_flop_count() -> None:
    drawn = loop()
    for _ in range(4):
        with drawn.step():
            drawn.op("custom::product", kernel=3_000, kernel_name="ampere_sgemm_128x128_tn")
    assert "lower bound" in caution(partial_flop_count, run_of(drawn))


def test_unknown_peak() -> None:
    drawn = loop()
    drawn.header["deviceProperties"] = [{"id": 0, "name": "Frobnicator 9000"}]
    assert "No peak is known" in caution(unknown_peak, run_of(drawn))
