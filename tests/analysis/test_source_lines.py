"""Innermost frames: the search over blocks finds what looking at every frame finds."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views import frame_threads
from mfu_doctor.analysis.views.frame_threads import thread_of
from mfu_doctor.analysis.views.source_lines import places_of, spent_at, user_frames
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.trace import Category
from tests.timeline import HOST, Timeline

US = 1000


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=40), st.integers(0, 100))
def test_the_innermost_frame_is_the_last_that_began_and_has_not_ended(spans: list[tuple[int, int]], at: int) -> None:
    t = Timeline()
    ordered = sorted(spans)
    for line, (start, length) in enumerate(ordered):
        t.add("python_function", f"train.py({line}): f{line}", start, length)
    t.add("cpu_op", "aten::mm", at, 1)
    trace = t.trace()
    open_ = [i for i, (start, length) in enumerate(ordered) if start <= at < start + length]
    expected = {f"train.py:{i}" for i in open_ if ordered[i][0] == ordered[open_[-1]][0]} if open_ else {None}
    assert places_of(trace, trace.rows(Category.CPU_OP))[0] in expected  # frames that begin together may change places


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), max_size=40), st.integers(0, 50), st.integers(0, 50))
def test_what_is_worked_out_of_some_frames_at_a_time_is_that_of_all(
    spans: list[tuple[int, int]], begin: int, length: int
) -> None:
    t = Timeline()
    for start, lasting in spans:
        t.add("python_function", "train.py(1): f", start, lasting)
    t.add("cpu_op", "aten::mm", 0, 1)
    trace, where = t.trace(), Intervals(np.array([begin * US]), np.array([(begin + length) * US]))
    thread = thread_of(trace, trace.rows(Category.PYTHON))
    with patch.object(frame_threads, "_AT_ONCE", 3):
        covered, overlap = thread.covered(), thread.overlap_with(where)
    every = union(thread.start, thread.end)
    assert (covered.start.tolist(), covered.end.tolist()) == (every.start.tolist(), every.end.tolist())
    assert overlap.tolist() == where.overlap_with(thread.start, thread.end).tolist()


def test_time_is_laid_to_the_innermost_function_that_covers_most_of_it() -> None:
    t = Timeline()
    t.add("python_function", "train.py(1): main", 0, 100)
    t.add("python_function", "train.py(9): augment", 10, 70)
    t.add("python_function", "train.py(20): flip", 12, 5)
    t.add("python_function", "train.py(30): log", 85, 10)
    trace = t.trace()
    track = int(trace.events.track[0])
    spot = spent_at(trace, Intervals(np.array([0]), np.array([100 * US])), user_frames(trace), track)
    assert spot is not None
    assert spot.spelled == "augment() at train.py:9"
    assert str(HOST) == trace.tracks[track].tid


def test_a_function_that_ran_already_when_the_recording_began_has_no_line() -> None:
    """`opt.step()` started the recorder: all that the loop did stood at its line, "67 % of peak"."""
    t = Timeline()
    t.add("python_function", "worker.py(33): pump", 0, 1000, tid=999)  # another thread, written down with its own stack
    t.add("python_function", "train.py(91): <module>", 1, 1000)
    t.add("python_function", "loop.py(40): run", 2, 900)
    t.add("python_function", "loop.py(12): one", 3, 100)
    t.add("python_function", "torch/optim/optimizer.py(538): wrapper", 4, 30)
    t.add("python_function", "torch/autograd/profiler.py(414): _start_trace", 5, 10)
    for start in (10, 200, 300):
        if start > 10:
            t.add("python_function", "loop.py(12): one", start, 50)  # its line is where it begins: it is called again
        t.add("cpu_op", "aten::mm", start + 40, 5)
    t.add("cpu_op", "aten::mm", 950, 5)
    t.add("cpu_op", "aten::mm", 400, 5)
    t.add("cpu_op", "aten::mm", 400, 5, tid=999)
    trace = t.trace()
    frames = user_frames(trace)
    rows = trace.rows(Category.CPU_OP)
    assert sorted({place or "" for place in places_of(trace, rows, frames)}) == [
        "loop.py, run()",
        "loop.py:12",
        "train.py",
        "worker.py, pump()",
    ]
    spot = spent_at(trace, Intervals(np.array([500 * US]), np.array([800 * US])), frames, int(trace.events.track[1]))
    assert spot is not None
    assert spot.spelled == "loop.py, run()"
    assert frames.is_within(
        "loop.py:38", spot.place
    )  # no function is known to begin between this line and the one it was at
    assert not frames.is_within("loop.py:10", spot.place)
    assert not frames.is_within("train.py:38", spot.place)


def test_the_line_of_work_in_backward_is_that_of_its_operator() -> None:
    """Every backward operator runs at `loss.backward()`; autograd's sequence number leads to the forward pass."""
    t = Timeline(device=None)
    with t.step():
        with t.span("model.py(7): forward", "python_function"):
            t.op("aten::t", host=10, sequence=5)
            t.op("aten::addmm", host=100, sequence=5)
        with t.span("train.py(30): backward", "python_function"):
            with t.span("autograd::engine::evaluate_function: AddmmBackward0", "cpu_op", sequence=5):
                t.python(2)
                t.op("aten::mm", host=200)
            with t.span("autograd::engine::evaluate_function: torch::autograd::AccumulateGrad", "cpu_op"):
                t.op("aten::add_", host=20)
    run = Run(t.trace())
    named = {run.trace.name_of(int(row)): int(row) for row in run.trace.rows(Category.CPU_OP)}
    rows = np.array([named["aten::mm"], named["aten::addmm"], named["aten::add_"]])
    assert run.places(rows) == ("model.py:7", "model.py:7", "train.py:30")


def test_an_operator_that_carries_its_stack_has_a_line_and_so_has_what_is_around_it() -> None:
    """Before torch 1.12 there are no Python events: the lines of the V100 pair were in their operators, and nobody read them."""
    library, framework = "/env/lib/python3.7/site-packages/torchvision/ops.py(3): f", "torch/optim/sgd.py(9): step"
    t = Timeline()
    t.add("cpu_op", "Optimizer.step#SGD.step", 0, 100)
    t.add("cpu_op", "aten::mul", 10, 20, call_stack=f"{framework};{library};train.py(51): <module>")
    t.add("cpu_op", "aten::add", 40, 20)
    t.add("cpu_op", "aten::mm", 200, 20, call_stack="model.py(12): forward;train.py(44): <module>")
    trace = t.trace()
    names = [trace.name_of(row) for row in trace.rows(Category.CPU_OP).tolist()]
    found = dict(zip(names, places_of(trace, trace.rows(Category.CPU_OP)), strict=True))
    assert found == {
        "Optimizer.step#SGD.step": "train.py:51",
        "aten::mul": "train.py:51",
        "aten::add": None,
        "aten::mm": "model.py:12",
    }
