"""A forward and backward pass that changes neither the model nor any random state.

Counting FLOPs must not change the run that follows.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map_only


def forward_and_backward(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The forward pass and, if gradients are enabled, the backward pass of the sum of all outputs.

    Args:
        model: the module.
        args: its arguments; their gradients are not touched.
        kwargs: its keyword arguments.
    """
    inputs, named = tree_map_only(torch.Tensor, _detached, (args, kwargs))
    outputs = list(_differentiable(model(*inputs, **named)))
    if outputs and torch.is_grad_enabled():
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])


def _detached(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _differentiable(value: Any) -> Iterator[torch.Tensor]:
    """Tensors of a module's output that have a gradient, also inside plain dataclasses."""
    for leaf in tree_leaves(value):
        if isinstance(leaf, torch.Tensor):
            if leaf.requires_grad:
                yield leaf
        elif is_dataclass(leaf):
            yield from _differentiable([getattr(leaf, name) for name in leaf.__dataclass_fields__])


@contextmanager
def left_as_found(model: torch.nn.Module) -> Iterator[None]:
    """Put back gradients, buffers and every random state that a forward pass may draw from."""
    grads = [(parameter, parameter.grad) for parameter in model.parameters()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    for parameter, _ in grads:
        parameter.grad = None
    try:
        with _random_states():
            yield
    finally:
        for parameter, grad in grads:
            parameter.grad = grad
        with torch.no_grad():
            for module, name, buffer, content in buffers:
                setattr(module, name, buffer.copy_(content))


@contextmanager
def _random_states() -> Iterator[None]:
    numpy = sys.modules.get("numpy")
    python_state, numpy_state = random.getstate(), numpy.random.get_state() if numpy else None
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if in_use else ()):
            yield
    finally:
        random.setstate(python_state)
        if numpy:
            numpy.random.set_state(numpy_state)
