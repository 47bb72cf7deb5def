"""Whether an optimizer will step: one exists, and the last backward pass gave its parameters gradients.

Then a batch is not a step, and a backward pass is none either: a program may load all batches before it trains, and gradients of
many are accumulated before an optimizer steps for the first time.
"""

from __future__ import annotations

from typing import Any

from mfu_doctor.capture.loop.living import living


def optimizer_exists(*, with_gradients: bool) -> bool:
    """Look at every object of the process once (0.1 s): call it in a step whose time is not used.

    Args:
        with_gradients: whether only an optimizer counts whose parameters have gradients.
    """
    from torch.optim import Optimizer

    optimizers = living(Optimizer)
    return any(_has_gradients(optimizer) for optimizer in optimizers) if with_gradients else bool(optimizers)


def _has_gradients(optimizer: Any) -> bool:
    groups = getattr(optimizer, "param_groups", None) or ()
    parameters = (parameter for group in groups for parameter in group.get("params", ()))
    return any(getattr(parameter, "is_leaf", False) and parameter.grad is not None for parameter in parameters)


def forward_work() -> int | None:
    """Grows with each operation of this thread that a backward pass could follow; None if this torch does not tell."""
    import torch

    number = getattr(torch._C._autograd, "_get_sequence_nr", None)  # noqa: SLF001 - no public name exists
    return number() if number is not None else None
