"""Whether an optimizer will step: one exists whose parameters the backward pass has just given gradients.

Then a backward pass is not a step: gradients of many are accumulated before the optimizer steps for the first time.
"""

from __future__ import annotations

import gc
from typing import Any


def optimizer_exists() -> bool:
    """Look at every object of the process once (0.1 s): call it in a step whose time is not used."""
    from torch.optim import Optimizer

    # the type is asked, not the object: `isinstance` would wake lazy objects of the program
    return any(issubclass(type(found), Optimizer) and _has_gradients(found) for found in gc.get_objects())


def _has_gradients(optimizer: Any) -> bool:
    groups = getattr(optimizer, "param_groups", None) or ()
    parameters = (parameter for group in groups for parameter in group.get("params", ()))
    return any(getattr(parameter, "is_leaf", False) and parameter.grad is not None for parameter in parameters)
