"""What an optimizer is: its class, its parameters, and which implementations it could use. Nothing of it is kept."""

from __future__ import annotations

import inspect
from typing import Any

from mfu_doctor.capture.facts.iterators import flag
from mfu_doctor.facts import OptimizerFacts

_OPTIONS = ("foreach", "fused")


def described(optimizer: Any) -> tuple[OptimizerFacts, dict[int, int]]:
    """An optimizer's facts, and the elements of each of its parameters."""
    groups = getattr(optimizer, "param_groups", None) or []
    first = groups[0] if groups else {}
    parameters = [p for group in groups for p in group.get("params", ()) if hasattr(p, "numel")]
    sizes = {id(p): int(p.numel()) for p in parameters}
    facts = OptimizerFacts(
        class_name=type(optimizer).__name__,
        fused=flag(first.get("fused")),
        foreach=flag(first.get("foreach")),
        capturable=flag(first.get("capturable")),
        parameters=len(parameters),
        elements=sum(sizes.values()),
        dtypes=tuple(sorted({short(p.dtype) or "" for p in parameters})),
        device_types=tuple(sorted({str(p.device.type) for p in parameters})),
        module=type(optimizer).__module__,
        options=_options(type(optimizer)),
        sparse_gradients=any(bool(getattr(getattr(p, "grad", None), "is_sparse", False)) for p in parameters),
    )
    return facts, sizes


def _options(of: type) -> tuple[str, ...] | None:
    """Which implementations the class lets its user choose; None if its constructor cannot be inspected."""
    try:
        taken = [
            inspect.signature(vars(base)["__init__"]).parameters for base in of.__mro__ if "__init__" in vars(base)
        ]
    except (TypeError, ValueError):
        return None
    found: set[str] = set()
    for parameters in taken:  # a constructor with **kwargs may hand them to its base
        found |= {option for option in _OPTIONS if option in parameters}
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            break
    return tuple(sorted(found))


def short(dtype: object) -> str | None:
    """The name of a dtype as users write it: "bfloat16"."""
    return str(dtype).removeprefix("torch.") if dtype is not None else None
