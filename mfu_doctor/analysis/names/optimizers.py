"""The optimizers of torch.optim: which options each takes, since which version of PyTorch, and how its step is recognized.

A live run asks the class itself (`OptimizerFacts.options`). This table is for traces, which only contain the name of the class.
"""

from __future__ import annotations

import re

from msgspec import Struct

Version = tuple[int, int]

SEARCHES = "LBFGS"
"""The class that calls the closure at several points of a line before it updates a parameter."""

STEP_OF_CLASS = re.compile(r"^Optimizer\.step#(?P<name>\w+)\.step")


class TorchOptimizer(Struct, frozen=True):
    """One class of torch.optim.

    Attributes:
        foreach: version from which on it takes `foreach`; None: it does not.
        fused_gpu: the same for `fused` with parameters on a GPU.
        fused_cpu: the same for `fused` with parameters on a CPU.
        calls: an operator that each step of it runs, as far as it is not fused; None if several are possible.
        own_norms: whether its step computes norms itself, so that a norm does not mean gradient clipping.
        own_clamps: the same for clamping.
    """

    foreach: Version | None = None
    fused_gpu: Version | None = None
    fused_cpu: Version | None = None
    calls: str | None = None
    own_norms: bool = False
    own_clamps: bool = False


# From the signatures in the released wheels (torch/optim/*.py of 1.6 to 2.13; a test compares them with the installed version).
# On which devices `fused` works is in torch/utils/_foreach_utils.py ("cpu" from 2.4 on) and, for Adagrad, in its own check: the
# CPU alone from 2.4 to 2.11 (`cuda_unsupported` in torch/optim/adagrad.py of 2.11), a GPU from 2.12 on.
_FOREACH: Version = (1, 12)
TORCH_OPTIMIZERS: dict[str, TorchOptimizer] = {
    "ASGD": TorchOptimizer(_FOREACH),
    "Adadelta": TorchOptimizer(_FOREACH),
    "Adafactor": TorchOptimizer((2, 5), own_norms=True),
    "Adagrad": TorchOptimizer(_FOREACH, (2, 12), (2, 4)),
    "Adam": TorchOptimizer(_FOREACH, (1, 13), (2, 4), "addcdiv_"),
    "AdamW": TorchOptimizer(_FOREACH, (2, 0), (2, 4), "addcdiv_"),
    "Adamax": TorchOptimizer(_FOREACH),
    "LBFGS": TorchOptimizer(own_norms=True),
    "Muon": TorchOptimizer(own_norms=True),
    "NAdam": TorchOptimizer(_FOREACH),
    "RAdam": TorchOptimizer(_FOREACH),
    "RMSprop": TorchOptimizer(_FOREACH),
    "Rprop": TorchOptimizer(_FOREACH, own_clamps=True),
    "SGD": TorchOptimizer(_FOREACH, (2, 3), (2, 4)),
    "SparseAdam": TorchOptimizer(),
}


def optimizer_class(mark: str) -> str | None:
    """The class in the name of an optimizer's step event ("AdamW"), or None."""
    match = STEP_OF_CLASS.match(mark)
    return match["name"] if match else None
