"""Another implementation of the program's optimizers: "fused" or "foreach" of every class of torch.optim that takes it.

Subclasses, and wrappers that make such an optimizer, reach the same constructors. An implementation that the program asks for is
replaced, which is the remedy. An optimizer that torch refuses to make so (a device or dtype without it) is made as it was.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import replace
from mfu_doctor.trial.remedies.remedy import Circumstances

_FUSED = "fused"
_CHOICES = ("foreach", _FUSED)


def use(choice: str, name: str) -> None:
    """Make optimizers with this implementation from now on, for the remedy of this name."""
    for kind in _classes():
        if choice in inspect.signature(vars(kind)["__init__"]).parameters:
            replace(kind, "__init__", lambda original: _choosing(original, choice, name))


def lacking(choice: str, circumstances: Circumstances) -> str | None:
    """Why no optimizer of the program can use it; None if one can, or if that is not known."""
    facts = circumstances.facts
    if facts is None or any(used.options is None for used in facts.optimizers):
        return None
    able = [used for used in facts.optimizers if choice in (used.options or ())]
    if not able:
        names = ", ".join(sorted({used.class_name for used in facts.optimizers}))
        return f"{names} has no {choice} implementation" if names else "no optimizer of torch was used"
    return f"it is {choice} already" if all(getattr(used, choice) for used in able) else None


def _classes() -> Iterator[type]:
    import torch

    for kind in vars(torch.optim).values():
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and "__init__" in vars(kind):
            yield kind


def _choosing(original: Callable[..., Any], choice: str, name: str) -> Callable[..., Any]:
    signature = inspect.signature(original)

    def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it stands in for one
        try:
            given = signature.bind(optimizer, *args, **kwargs)
        except TypeError:  # the call is wrong, and says so itself
            original(optimizer, *args, **kwargs)
            return
        given.arguments["params"] = _again(given.arguments["params"])
        if given.arguments.get(choice) or given.arguments.get("differentiable"):
            original(*given.args, **given.kwargs)
            return
        others = {other: None for other in _CHOICES if other in given.arguments}
        try:
            if choice == _FUSED:
                _check(given.arguments["params"])
            original(*given.args, **{**given.kwargs, **others, choice: True})
        except RuntimeError:
            original(*given.args, **given.kwargs)
        else:
            took_effect(name)

    return __init__


def _check(params: Any) -> None:
    """Let torch raise for parameters that no fused kernel takes: recent versions look at them only in the first step."""
    from torch.optim import optimizer

    check = getattr(optimizer, "_device_dtype_check_for_fused", None)
    if check is None or not isinstance(params, list):
        return
    for entry in params:
        if isinstance(entry, dict):
            _check(entry["params"])
        else:
            check(entry[1] if isinstance(entry, tuple) else entry)


def _again(params: Any) -> Any:
    """The same parameters or groups, which can be gone through twice: a generator cannot."""
    import torch

    if isinstance(params, torch.Tensor):
        return params  # the mistake of the program, which torch explains
    groups = list(params)
    return [{**g, "params": _again(g["params"])} if isinstance(g, dict) else g for g in groups]
