"""No gradients for parameters that no optimizer has, after the first optimizer step.

An optimizer that gets them later makes them trainable again. A program that reads these gradients itself, or clips them together
with the others, computes something else.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.outermost_calls import when_models_are_known
from mfu_doctor.trial.remedies.patches import replace
from mfu_doctor.trial.remedies.remedy import Circumstances, Numerics, Remedy

_NAME = "frozen-parameters"


def _why_not(circumstances: Circumstances) -> str | None:
    found = circumstances.facts.unused_gradients if circumstances.facts is not None else None
    unused = found is None or any(group.fate == "frozen" for group in found)
    return None if unused else "every gradient belongs to a parameter of an optimizer"


def _apply(_: str | None) -> None:
    from torch.optim import Optimizer

    frozen = _Frozen()
    replace(Optimizer, "add_param_group", frozen.adding)
    when_models_are_known(frozen.freeze)


class _Frozen:
    """Which parameters optimizers have, and which were frozen here."""

    def __init__(self) -> None:
        self._optimizers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._parameters: dict[int, weakref.ref[Any]] = {}

    def adding(self, original: Callable[..., None]) -> Callable[..., None]:
        """`add_param_group`, also as every optimizer calls it when it is made."""

        def add_param_group(optimizer: Any, param_group: dict[str, Any]) -> None:
            original(optimizer, param_group)
            self._optimizers.add(optimizer)
            for parameter in optimizer.param_groups[-1]["params"]:
                if self._frozen(parameter):
                    parameter.requires_grad_(True)

        return add_param_group

    def _frozen(self, parameter: Any) -> bool:
        known = self._parameters.pop(id(parameter), None)
        return known is not None and known() is parameter

    def freeze(self, models: list[Any]) -> None:
        """Freeze what no optimizer has; nothing if no optimizer of torch was made."""
        trained = {id(p) for optimizer in self._optimizers for p in _parameters_of(optimizer)}
        for parameter in (p for model in models for p in model.parameters() if trained):
            if parameter.requires_grad and id(parameter) not in trained:
                parameter.requires_grad_(False)
                parameter.grad = None
                self._parameters[id(parameter)] = weakref.ref(parameter)
                took_effect(_NAME)


def _parameters_of(optimizer: Any) -> Iterator[Any]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


FROZEN_PARAMETERS = Remedy(
    name=_NAME,
    answers=("unused-gradients",),
    words="parameters that no optimizer has get no gradient",
    line="module.requires_grad_(False)",
    numerics=Numerics.CHANGES,  # if they are clipped together with the others
    why_not=_why_not,
    apply=_apply,
)
