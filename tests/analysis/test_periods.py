"""Loops without step marks: found where they are, and not invented from the layers of one forward pass."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from msgspec.structs import asdict, replace

from mfu_doctor.analysis.names.vocabulary import OPTIMIZER_MARK, STEP_MARK, ids_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.trace import Category, Events, Trace
from tests.reference import from_json
from tests.timeline import HOST, Timeline
from tests.traces import real_run

LAYER = ("norm", "linear", "view", "softmax", "matmul", "dropout", "linear", "gelu", "linear", "add")
BACKWARD = 101
NODE = "autograd::engine::evaluate_function: MmBackward0"


def layers(t: Timeline, count: int, *, kernel: int = 100) -> None:
    for _ in range(count):
        for name in LAYER:
            t.op(f"aten::{name}", kernel=kernel)


def forward(t: Timeline, count: int = 12, *, kernel: int = 100) -> None:
    """An embedding, so many layers, and a head: less than a tenth of all time."""
    t.op("aten::embedding", kernel=kernel)
    layers(t, count, kernel=kernel)
    t.op("aten::layer_norm", kernel=kernel)
    t.op("aten::lm_head", kernel=2 * kernel)


def module(t: Timeline, start: int, name: str = "nn.Module: Model_0") -> None:
    t.add("python_function", name, start, t.now - start)


def source(t: Timeline) -> tuple[str, int]:
    steps = Run(t.trace()).steps
    return steps.source, steps.count


@pytest.mark.parametrize("count", [8, 12])
def test_layers_of_one_module_span_are_no_steps(count: int) -> None:
    """One call of a model: host-bound layers of 40 ms in a span of 927 ms, of which the rest is other work."""
    t = Timeline()
    start = t.now
    for i in range(40):
        t.op(f"aten::other{i}", kernel=10_000, host=12_000)
    for _ in range(count):
        for name in LAYER:
            t.op(f"aten::{name}", kernel=3000, host=4000)
    module(t, start)
    run = Run(t.trace())
    assert (run.steps.source, run.steps.count) == ("whole trace", 1)


@pytest.mark.parametrize("count", [4, 12, 80])
def test_layers_between_an_embedding_and_a_head_are_no_steps(count: int) -> None:
    """Nothing but the sequence of kernels: no stacks, no labels; the layers take nearly all of the time."""
    t = Timeline()
    forward(t, count)
    assert source(t) == ("whole trace", 1)


@pytest.mark.parametrize("category", ["user_annotation", "cpu_op"])
def test_layers_inside_one_label_or_operator_are_no_steps(category: str) -> None:
    t = Timeline()
    with t.span("model_inference", category):
        layers(t, 12)
    assert source(t) == ("whole trace", 1)


def test_a_call_of_a_model_each_is_a_step_even_after_long_other_work() -> None:
    """Each round is in a module call of its own: what came before the loop does not hide it."""
    t = Timeline()
    t.op("aten::normal_", kernel=100)
    t.python(500_000)
    for _ in range(6):
        start = t.now
        forward(t)
        module(t, start)
    assert source(t) == ("periodicity", 5)


def test_layers_are_no_steps_in_a_loop_over_a_model() -> None:
    """Twelve layers in each of six rounds: the rounds are the steps."""
    t = Timeline()
    for _ in range(6):
        forward(t)
    run = Run(t.trace())
    assert (run.steps.source, run.steps.count) == ("periodicity", 5)
    assert set(run.steps.duration.tolist()) == {12_400_000}


def test_parameters_of_an_optimizer_are_no_steps() -> None:
    """An old trace of operators: two iterations, in each 111 parameters are updated with ten operators of 5 us."""
    t = Timeline(device=None)
    for _ in range(2):
        for i in range(60):
            t.op(f"aten::op{i}", host=3000)
        for _ in range(111):
            for name in ("mul_", "add_", "mul_", "addcmul_", "sqrt", "add_", "empty", "div", "addcdiv_", "copy_"):
                t.op(f"aten::{name}", host=5)
    assert source(t) == ("whole trace", 1)


def rounds(t: Timeline, count: int, odd: tuple[int, ...]) -> None:
    """Equal rounds of ten operations; the odd ones have three more in their middle."""
    for i in range(count):
        for at, name in enumerate(LAYER):
            t.op(f"aten::{name}{at}", kernel=100)
            if i in odd and at == 4:
                for extra in ("isnan", "any", "item"):
                    t.op(f"aten::{extra}", kernel=50)


@pytest.mark.parametrize(
    ("count", "odd"),
    [(10, (3, 7)), (10, (4, 5)), (10, (0, 5)), (10, (5, 9)), (10, (0, 9)), (100, (30, 60)), (100, (0, 99))],
)
def test_a_loop_whose_rounds_sometimes_differ_is_found(count: int, odd: tuple[int, ...]) -> None:
    t = Timeline()
    rounds(t, count, odd)
    assert source(t) == ("periodicity", count - 1)


def test_a_loop_of_which_half_the_rounds_differ_is_one_step() -> None:
    t = Timeline()
    rounds(t, 10, (1, 2, 4, 7, 8))
    assert source(t)[0] == "whole trace"


def test_a_loop_that_logs_now_and_then_has_steps_of_one_round() -> None:
    """Every tenth of a hundred rounds logs: ten rounds between two logs are no step."""
    t = Timeline()
    rounds(t, 100, tuple(range(5, 100, 10)))
    assert source(t) == ("periodicity", 99)


def test_micro_batches_are_no_steps() -> None:
    """Eight equal forward and backward passes and an update, four times: the update ends the step."""
    t = Timeline()
    for _ in range(4):
        rounds(t, 8, ())
        t.op("aten::_foreach_add_", kernel=30)
    assert source(t) == ("periodicity", 3)


def test_a_loop_is_found_after_its_data_was_made() -> None:
    t = Timeline()
    t.op("aten::randn", kernel=200)
    for _ in range(10):
        forward(t, 2)
    assert source(t) == ("periodicity", 9)


def test_ten_equal_forward_passes_on_a_cpu_are_ten_rounds() -> None:
    t = Timeline(device=None)
    t.op("aten::randn", host=30)
    for _ in range(10):
        for name in ("linear", "relu", "linear", "relu", "linear", "log_softmax"):
            with t.span(f"aten::{name}", "cpu_op"):
                t.op("aten::addmm", host=100)
                t.python(7)
        t.python(40)
    run = Run(t.trace())
    assert (run.steps.source, run.steps.count) == ("periodicity", 9)
    assert set(run.steps.duration.tolist()) == {(6 * 107 + 40) * 1000}


def train(t: Timeline, steps: int, count: int = 12) -> None:
    """Forward and backward of some layers, backward on a thread of its own; no marks."""
    for _ in range(steps):
        forward(t, count)
        since = len(t.events)
        for _ in range(count):
            for name in LAYER:
                with t.span(NODE, "cpu_op"):
                    t.op(f"aten::{name}_backward", kernel=200)
        for event in t.events[since:]:
            if event["tid"] == HOST:
                event["tid"] = BACKWARD


def test_layers_of_backward_are_no_steps() -> None:
    t = Timeline()
    train(t, 1)
    assert source(t) == ("whole trace", 1)


def test_steps_of_forward_and_backward_are_found() -> None:
    t = Timeline()
    train(t, 5, 3)
    assert source(t) == ("periodicity", 4)


def test_a_loop_recorded_from_within_a_round_is_found() -> None:
    """The profiler was started and stopped in the middle of rounds."""
    t = Timeline()
    for _ in range(6):
        forward(t, 2)
    starts = sorted(e["ts"] for e in t.events if e["cat"] == "cpu_op")
    lo, hi = starts[7], starts[-9]
    kept: list[dict[str, Any]] = [e for e in t.events if e["cat"] == "kernel" or lo <= e["ts"] < hi]
    calls = {e["args"]["correlation"] for e in kept if e["cat"] == "cuda_runtime"}
    kept = [e for e in kept if e["cat"] != "kernel" or e["args"]["correlation"] in calls]
    assert Run(from_json(t.header | {"traceEvents": kept})).steps.source == "periodicity"


def test_a_long_trace_is_searched_in_time_that_grows_with_it() -> None:
    """Three thousand names that all repeat, none regularly: each is looked at once."""
    t = Timeline()
    dice = random.Random(0)
    for _ in range(12_000):
        t.op(f"aten::op{dice.randrange(3000)}", kernel=1, host=5)
    assert source(t)[0] == "whole trace"


def unmarked(trace: Trace, *, stacks: bool) -> Trace:
    """A trace without its step marks and optimizer steps, and on request without anything that spans could tell."""
    marks = np.concatenate((ids_matching(trace, STEP_MARK), ids_matching(trace, OPTIMIZER_MARK)))
    keep = ~np.isin(trace.events.name, marks)
    if not stacks:
        keep &= ~np.isin(trace.events.category, np.array([Category.PYTHON, Category.ANNOTATION], np.uint8))
    rows = np.flatnonzero(keep)
    return replace(trace, events=Events(**{name: column[rows] for name, column in asdict(trace.events).items()}))


@pytest.mark.parametrize("stacks", [True, False])
@pytest.mark.parametrize(
    ("file", "count", "median_ms"),
    [
        ("a100_dlrm_rank3of8", 5, 76.82),  # the medians of the marked traces
        ("v100_resnet50_workers4", 5, 128.0),
        ("mi300x_resnet_checkpoint_rank0of8", 3, 18.98),
    ],
)
def test_real_loops_are_found_without_their_marks(file: str, count: int, median_ms: float, stacks: bool) -> None:
    run = Run(unmarked(real_run(file).trace, stacks=stacks))
    assert (run.steps.source, run.steps.count) == ("periodicity", count)
    assert run.steps.duration[run.steps.median] / 1e6 == pytest.approx(median_ms, rel=0.005)
    assert run.replay.error == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("stacks", [True, False])
@pytest.mark.parametrize("file", ["h100_timesformer_inference", "h100_bert_small_inference", "mi300x_inductor_triton"])
def test_real_forward_passes_are_one_step_without_their_marks(file: str, stacks: bool) -> None:
    """Twelve layers of a TimeSformer were eleven steps of 13 ms in a pass of 160 ms."""
    run = Run(unmarked(real_run(file).trace, stacks=stacks))
    assert (run.steps.source, run.steps.count) == ("whole trace", 1)
