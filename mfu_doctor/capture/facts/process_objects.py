"""What the process holds: parameters of all optimizers, and the modules that own some parameters.

Only addresses and names leave here.
"""

from __future__ import annotations

from typing import Any

from mfu_doctor.capture.loop.living import living

_MOST_NAMES = 4


def optimizer_parameters() -> set[int]:
    """Addresses of the parameters of all optimizers."""
    from torch.optim import Optimizer

    groups = [group for optimizer in living(Optimizer) for group in getattr(optimizer, "param_groups", ())]
    return {id(parameter) for group in groups for parameter in group.get("params", ())}


def modules_of(parameters: set[int]) -> tuple[str, ...]:
    """Names of the outermost modules all of whose parameters are these: "PerceptualLoss.net", "Teacher"."""
    from torch.nn import Module

    modules = living(Module)
    whole = {id(module) for module in modules if _is_of(module, parameters)}
    inner: dict[int, str] = {}  # a module's name in the module that holds it
    within_whole: set[int] = set()
    for module in modules:
        for name, child in vars(module).get("_modules", {}).items():
            if child is not None:
                inner.setdefault(id(child), f"{type(module).__name__}.{name}")
                within_whole |= {id(child)} if id(module) in whole else set()
    names = [inner.get(id(module), type(module).__name__) for module in modules if id(module) in whole - within_whole]
    return tuple(dict.fromkeys(names))[:_MOST_NAMES]


def _is_of(module: Any, parameters: set[int]) -> bool:
    if "_parameters" not in vars(module):
        return False
    mine = [id(parameter) for parameter in module.parameters()]
    return bool(mine) and parameters.issuperset(mine)
