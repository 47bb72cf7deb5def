"""Two windows in one file: times from the light one, shapes and lines from the deep one, the profiler's own time taken out."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.replay.edits import ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.timed_steps import evened
from mfu_doctor.facts import Facts, MeasuredPeak, Window
from mfu_doctor.trace import Category, Trace
from tests.timeline import Timeline

SHAPES: dict[str, list[list[int]]] = {
    "aten::mm": [[8, 16], [16, 32]],
    "aten::addmm": [[32], [8, 16], [16, 32]],
    "aten::bmm": [[1, 100, 1000], [1, 1000, 1000]],
}

PLAIN, LARGE = ("aten::mm", "aten::addmm", "aten::mm"), ("aten::bmm",)


def two_windows(
    light: tuple[tuple[str, ...], ...] = (PLAIN,) * 3, deep: tuple[tuple[str, ...], ...] = (PLAIN,)
) -> Trace:
    """Light steps of these operators, then (slower, with shapes) the deep ones, as a live capture writes them."""
    t = Timeline(device=None)
    for names in light:
        with t.step():
            for name in names:
                t.op(name, host=100)
    middle = t.now
    t.python(5000)
    begin = t.now
    for names in deep:
        with t.step():
            for name in names:
                t.op(name, host=900, dims=SHAPES[name], types=["float"] * len(SHAPES[name]))
    trace = t.trace()
    at = trace.origin_ns
    windows = (
        Window(kind="timing", start_ns=at, end_ns=at + middle * 1000, steps=len(light)),
        Window(kind="shapes", start_ns=at + begin * 1000, end_ns=at + t.now * 1000, steps=len(deep)),
    )
    return replace(trace, facts=Facts(windows=windows))


def test_only_the_light_window_is_timed() -> None:
    run = Run(two_windows())
    assert run.steps.count == 3
    assert run.steps.duration.tolist() == [300_000] * 3


def test_operators_get_the_shapes_of_their_twins() -> None:
    run = Run(two_windows())
    rows = run.trace.rows(Category.CPU_OP)
    dims = [args.dims if (args := run.trace.args_of(int(r))) else None for r in rows]
    assert dims == [((8, 16), (16, 32)), ((32,), (8, 16), (16, 32)), ((8, 16), (16, 32))] * 3


def test_an_operator_that_occurs_unequally_often_gets_no_shapes() -> None:
    """Guessing which of four products the three were would be worse than saying so."""
    run = Run(two_windows(deep=((*PLAIN, "aten::mm"),)))
    rows = run.trace.rows(Category.CPU_OP)
    known = [run.trace.name_of(int(r)) for r in rows if run.trace.args_of(int(r)) is not None]
    assert known == ["aten::addmm"] * 3


def test_steps_that_take_turns_get_the_shapes_of_their_like() -> None:
    """A generator that steps in every third round: with one deep step, the third one's operators stayed without shapes."""
    both = (*PLAIN, "aten::addmm")
    run = Run(two_windows(light=(PLAIN, PLAIN, both, PLAIN), deep=(PLAIN, both, PLAIN)))
    rows = run.trace.rows(Category.CPU_OP)
    assert len(rows) == 13
    assert all(run.trace.args_of(int(r)) is not None for r in rows)


def test_shapes_with_which_a_timed_matmul_would_beat_the_processor_are_not_borrowed() -> None:
    """A longest batch was recorded with shapes: its FLOPs in shorter ones made "992 GFLOP/s" of a processor of 206."""
    trace = two_windows(light=(LARGE,) * 3, deep=(LARGE,))
    facts = trace.facts
    assert facts is not None

    def run_at(gflops: float) -> Run:
        peak = MeasuredPeak(dtype="float32", flops=gflops * 1e9, threads=2, how="measured: best float32 matmul")
        return Run(replace(trace, facts=replace(facts, measured_peaks=(peak,))))

    fits, misfits = run_at(2_000.0), run_at(300.0)  # 200 MFLOP in 100 us, and in 900 us where they were recorded
    assert fits.flops.flops() == 2 * 100 * 1000 * 1000
    assert misfits.flops.flops() == 0
    assert misfits.peaks.of("fp32") == 300e9
    assert misfits.flops.reason is not None
    assert "reached 2.00 TFLOP/s, where 300 GFLOP/s were measured" in misfits.flops.reason


def test_a_trace_with_one_window_is_analysed_as_it_is() -> None:
    trace = two_windows()
    assert Run(replace(trace, facts=None)).trace.events is trace.events


def profiled_run(timed_us: float) -> Run:
    """10 operators of 20 us with 5 us between, of which the profiler makes some."""
    t = Timeline(device=None)
    for _ in range(6):
        with t.step():
            t.fetch(100)
            for _ in range(10):
                t.op("aten::add", host=20)
                t.python(5)
    return Run(replace(t.trace(), facts=Facts(timed_steps_s=(timed_us * 1e-6,) * 5)))


def test_the_profilers_time_is_taken_out_of_the_gaps_not_of_the_operators() -> None:
    """Profiled 350 us, un-profiled 320: without the fetch 220 us are left, not 230 (250 scaled by the ratio would be 229)."""
    replay = profiled_run(320).replay
    assert replay.measured_ns == pytest.approx(320_000)
    run = profiled_run(320)
    assert run.replay.step_ns([ScaleHost(run.host.fetch)]) == pytest.approx(222_000, rel=0.01)
    assert run.replay.error == 0


def test_steps_that_the_profiler_did_not_slow_are_left_alone() -> None:
    assert profiled_run(349).replay.measured_ns == pytest.approx(350_000)
    assert profiled_run(400).replay.measured_ns == pytest.approx(350_000)


def test_what_no_host_time_explains_is_not_corrected_away() -> None:
    """A device-bound run cannot have been slowed by recording on the host: 1000 us of kernels stay 1000 us."""
    t = Timeline()
    for _ in range(6):
        with t.step():
            t.op("aten::mm", kernel=1000)
    run = Run(replace(t.trace(), facts=Facts(timed_steps_s=(700e-6,) * 5)))
    assert run.replay.measured_ns == pytest.approx(1_000_000)


def test_places_come_from_the_stacks_of_the_deep_window() -> None:
    trace = two_windows()
    events = trace.events
    last = int(trace.rows(Category.CPU_OP)[-1])
    names = (*trace.names, "train.py(41): step")
    frame = {
        "start": int(events.start[last]) - 10,
        "end": int(events.end[last]) + 10,
        "name": len(names) - 1,
        "category": int(Category.PYTHON),
        "track": int(events.track[last]),
        "correlation": -1,
        "external_id": -1,
        "sequence": -1,
        "args": -1,
    }
    columns = {
        key: np.append(getattr(events, key), value).astype(getattr(events, key).dtype) for key, value in frame.items()
    }
    order = np.lexsort((-columns["end"], columns["start"]))
    merged = replace(trace, names=names, events=type(events)(**{k: v[order] for k, v in columns.items()}))
    run = Run(merged)
    rows = run.trace.rows(Category.CPU_OP)
    assert run.places(rows[-1:]) == ("train.py:41",)
    assert run.places(rows[:1]) == (None,)


def test_bursts_of_a_starved_loader_are_evened_out() -> None:
    """Two workers that cannot keep up deliver two batches at a time: the step is 64 ms, not 120 or 8."""
    assert evened((0.120, 0.008, 0.120, 0.008, 0.120, 0.008), 2) == pytest.approx((0.064,) * 5)
    assert evened((0.120, 0.008, 0.120), 0) == (0.120, 0.008, 0.120)
    assert evened((0.1, 0.2), 2) == (0.1, 0.2)
