"""Exact FLOPs of a live step, and what counting leaves alone: recomputation, compiled code, gradients, random states."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
import torch
from torch import library, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from mfu_doctor import FlopReport, count_flops, flop_formula
from mfu_doctor.capture.flops import formula_lookup

UNIT = 2 * 2 * 16 * 32 * 32  # forward of `mlp` on 16 rows


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(32, 32, bias=False), nn.ReLU(), nn.Linear(32, 32, bias=False))


def backward(loss: torch.Tensor) -> None:
    torch.autograd.backward(loss)


def test_counting_is_importable_without_torch() -> None:
    """`import mfu_doctor` and registering a formula stay light."""
    code = "import mfu_doctor, sys; mfu_doctor.flop_formula, mfu_doctor.FlopReport; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


Recompute: TypeAlias = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def keeping_products(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    def contexts() -> Any:
        return create_selective_checkpoint_contexts([torch.ops.aten.mm.default])  # type: ignore[no-untyped-call]

    return torch.as_tensor(checkpoint(module, x, use_reentrant=False, context_fn=contexts))


@pytest.mark.parametrize(
    ("run", "executed"),
    [
        (lambda module, x: module(x), 3.0),
        (lambda module, x: checkpoint(module, x, use_reentrant=False), 3.5),
        (lambda module, x: checkpoint(module, x, use_reentrant=True), 4.0),
        (lambda module, x: checkpoint(module, x, use_reentrant=False, early_stop=False), 4.0),
        (keeping_products, 3.0),
    ],
    ids=["none", "early-stop", "reentrant", "whole", "selective"],
)
def test_checkpointing_adds_to_what_is_executed_and_not_to_the_model(run: Recompute, executed: float) -> None:
    """The model is three forwards whatever is recomputed."""
    module, x = mlp(), torch.randn(16, 32, requires_grad=True)
    counted = count_flops(lambda: backward(run(module, x).sum()))
    assert counted.model == 3 * UNIT
    assert counted.executed == executed * UNIT
    assert counted.recompute == (executed - 3) * UNIT


def test_gradients_of_gradients_are_the_model_and_not_recomputation() -> None:
    """`create_graph=True` runs backward with gradients enabled, as recomputation does."""
    weight, x = torch.randn(32, 32, requires_grad=True), torch.randn(16, 32, requires_grad=True)

    def penalty() -> None:
        (grad,) = torch.autograd.grad((x @ weight).sum(), x, create_graph=True)
        backward(grad.square().sum())

    counted = count_flops(penalty)
    product = 2 * 16 * 32 * 32
    assert (counted.forward, counted.recompute) == (product, 0)
    assert counted.backward == 2 * product  # the gradient of x, then that gradient's own by the weight


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("fresh_dynamo")
def test_compiled_code_survives_the_count() -> None:
    """Torch's own counter makes Dynamo give the function up for the rest of the process, and `fullgraph` raise."""
    calls = 0

    def backend(graph: torch.fx.GraphModule, _inputs: object) -> Callable[..., object]:
        def compiled(*args: object) -> object:
            nonlocal calls
            calls += 1
            return graph.forward(*args)

        return compiled

    linear, x = nn.Linear(64, 64, bias=False), torch.randn(64, 64)
    model = torch.compile(linear, backend=backend, fullgraph=True)
    for _ in range(5):
        model(x)
    assert calls == 5
    assert count_flops(lambda: model(x)).model == 524_288
    assert calls == 5
    for _ in range(5):
        model(x)
    assert calls == 10


def test_accumulated_batches_add_up() -> None:
    module, x = mlp(), torch.randn(16, 32)

    def step(batches: int) -> None:
        for _ in range(batches):
            backward(module(x).sum())

    assert count_flops(step, 4).model == 4 * count_flops(step, 1).model


def test_alternating_shapes_add_up() -> None:
    """Nothing is remembered from one shape to the next."""
    module = mlp()
    short, long = (torch.randn(rows, 32) for rows in (16, 48))
    alone = [count_flops(module, x).model for x in (short, long)]
    assert alone[1] == 3 * alone[0]

    def step() -> None:
        for x in (short, long, short, long):
            backward(module(x).sum())

    counted = count_flops(step)
    assert counted.model == 2 * sum(alone)


def test_autocast_products_are_bf16() -> None:
    """The dtype is that of the cast operands, not of the parameters; a loss in fp32 multiplies nothing."""
    module, x = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)), torch.randn(32, 64)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            out = module(x)
        backward(functional.mse_loss(out.float(), torch.zeros(32, 8)))

    forward = 2 * 32 * 64 * (64 + 8)
    assert count_flops(step).by_dtype == {"bfloat16": 3 * forward - 2 * 32 * 64 * 64}


def test_modules_operators_and_phases_are_parts_of_the_model() -> None:
    counted = count_flops(mlp(), torch.randn(16, 32, requires_grad=True))
    for parts in (counted.by_module, counted.by_dtype, counted.by_op):
        assert sum(parts.values()) == counted.model == counted.forward + counted.backward
    assert {"Sequential.0", "Sequential.2"} <= set(counted.by_module)


@pytest.fixture
def product_op() -> Iterator[Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]:
    """A custom operator, and the registered formulas as they were afterwards."""

    @library.custom_op("mfu_doctor_test::product", mutates_args=())
    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ b

    yield product
    formula_lookup._registered.pop("mfu_doctor_test::product", None)


def test_a_custom_operator_is_unknown_until_it_has_a_formula(
    product_op: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> None:
    """Never silently zero."""
    a, b = torch.randn(8, 16), torch.randn(16, 32)
    before = count_flops(lambda: product_op(a, b))
    assert (before.model, before.unknown) == (0, {"mfu_doctor_test::product": 1})

    @flop_formula("mfu_doctor_test::product")
    def formula(a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor) -> int:
        return 2 * out.numel() * a.shape[1]

    after = count_flops(lambda: product_op(a, b))
    assert (after.model, after.unknown) == (8_192, {})


def test_a_module_is_left_as_found() -> None:
    """Gradients, buffers, weights and every random state."""
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    x = torch.randn(4, 8, requires_grad=True)
    backward(model(x).sum())
    grads = [parameter.grad for parameter in model.parameters()]
    values = [grad.clone() for grad in grads if grad is not None]
    x_grad = None if x.grad is None else x.grad.clone()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    tracked = model[1].running_mean
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002

    class Drawing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.inner(x) * random.random() * np.random.rand())  # noqa: NPY002

    assert count_flops(Drawing(), x).model > 0
    assert all(parameter.grad is grad for parameter, grad in zip(model.parameters(), grads, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(values, (g for g in grads if g is not None), strict=True))
    assert x_grad is not None
    assert torch.equal(x_grad, torch.as_tensor(x.grad))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert model[1].running_mean is tracked
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert np.array_equal(states[2], np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002


def test_a_failing_step_leaves_no_counter_behind() -> None:
    """The error is the step's own, and what runs later is not counted or slowed."""
    with pytest.raises(ZeroDivisionError):
        count_flops(lambda: 1 // 0)
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
    assert not torch.nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]
    assert count_flops(mlp(), torch.randn(16, 32)).forward == UNIT


def test_without_gradients_there_is_no_backward() -> None:
    """In inference mode torch hands over operators that are made of others, such as `linear`."""
    module, x = mlp(), torch.randn(16, 32)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            counted = count_flops(module, x)
        assert (counted.forward, counted.backward) == (UNIT, 0)
    assert not torch.nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]


def test_a_report_is_a_value() -> None:
    assert isinstance(count_flops(lambda: None), FlopReport)
    assert count_flops(lambda: None) == FlopReport(model=0, causal=0, executed=0, forward=0, backward=0, recompute=0)
