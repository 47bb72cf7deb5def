"""forward-only: a trace without anything of a backward pass is named as what it is."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.trace.forward_only import forward_only
from mfu_doctor.trace import Category
from tests.rules.judging import caution, run_of, silent
from tests.timeline import Timeline


def requests(*, also: str = "") -> Timeline:
    """Steps of a forward pass, and perhaps of one operator more."""
    drawn = Timeline()
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", kernel=500)
            if also:
                drawn.op(also, kernel=100)
    return drawn


def test_a_forward_pass_alone_is_named() -> None:
    assert caution(forward_only, run_of(requests())).startswith("No backward pass: the trace has none")


@pytest.mark.parametrize(
    "frame",
    [
        "torch/utils/_contextlib.py(113): decorate_context",
        "transformers/generation/utils.py(2215): generate",
        "vllm/v1/worker/gpu_model_runner.py(3380): execute_model",
        "<built-in method inference_mode>",
    ],
)
def test_inference_is_what_shows_that_no_gradients_are_wanted(frame: str) -> None:
    """A forward pass that was drawn or cut out of training was once called inference."""
    drawn = requests()
    drawn.add("python_function", frame, 0, 10)
    assert caution(forward_only, run_of(drawn)).startswith("Inference: the trace has no backward pass")


@pytest.mark.parametrize(
    "name",
    [
        "autograd::engine::evaluate_function: MmBackward0",
        "aten::_foreach_add_.multi_tensor",
        "aten::native_layer_norm_backward",
    ],
)
def test_anything_of_training_is_training(name: str) -> None:
    silent(forward_only, run_of(requests(also=name)))


def test_without_operators_nobody_knows() -> None:
    trace = requests().trace()
    category = trace.events.category.copy()
    category[category == Category.CPU_OP] = Category.KERNEL
    assert isinstance(forward_only.judge(Run(replace(trace, events=replace(trace.events, category=category)))), Skip)
