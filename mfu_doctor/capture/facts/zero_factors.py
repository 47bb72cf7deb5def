"""Nodes of autograd whose gradient is multiplied by zero: what they belong to changes neither a loss nor a parameter.

A loss with a weight of zero (`loss + 0.0 * extra`) is computed, forward and backward, like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mfu_doctor.capture.facts.backward_graph import nodes_behind
from mfu_doctor.capture.facts.saved_tensors import saved_tensor

_FACTORS = ("_raw_saved_other", "_raw_saved_self")  # of each input of a product the other one


def is_zero(value: Any) -> bool:
    """Whether a factor is the number zero, or a tensor of it alone."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.numel() == 1 and not value.is_meta and not bool(value)
    return isinstance(value, int | float) and value == 0


def nodes_without_effect(roots: Iterable[Any]) -> set[int]:
    """Numbers of the nodes behind these tensors that only products with zero lead to."""
    nodes = nodes_behind(roots) or []
    ends = {id(node): _ends(node) for node in nodes if node.name() == "MulBackward0"}
    if not any(ends.values()):
        return set()
    left = list({id(node): node for root in roots if (node := root.grad_fn) is not None}.values())
    reached = {id(node) for node in left}
    while left:
        node = left.pop()
        for position, (child, _) in enumerate(node.next_functions):
            if child is None or id(child) in reached or position in ends.get(id(node), ()):
                continue
            reached.add(id(child))
            left.append(child)
    return {int(node._sequence_nr()) for node in nodes if id(node) not in reached}  # noqa: SLF001 - no public name exists


def _ends(product: Any) -> tuple[int, ...]:
    """Positions of the inputs of a product whose gradient is zero."""
    saved = (saved_tensor(product, name) for name in _FACTORS)
    return tuple(at for at, factor in enumerate(saved) if factor is not None and is_zero(factor))
