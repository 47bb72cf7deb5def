"""Gradients are dropped, not set to zero: `zero_grad(set_to_none=False)` of optimizers and modules does what its default does."""

from __future__ import annotations

from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import change_arguments
from mfu_doctor.trial.remedies.remedy import Keywords, Numerics, Remedy

_NAME = "zero-grad-to-none"


def _apply(_: str | None) -> None:
    import torch

    def change(given: dict[str, Any]) -> None:
        if not given.get("set_to_none", True):
            given["set_to_none"] = True
            took_effect(_NAME)

    for kind in (torch.optim.Optimizer, torch.nn.Module):
        change_arguments(kind, change, "zero_grad")


ZERO_GRAD_TO_NONE = Remedy(
    name=_NAME,
    answers=("zeroed-gradients",),
    words="gradients are dropped, not set to zero; a parameter that a step does not use is then not updated by it",
    line="optimizer.zero_grad(set_to_none=True)",
    numerics=Numerics.CHANGES,  # only with such parameters
    why_not=whether.always,
    apply=_apply,
    edit=Keywords(("zero_grad",), (("set_to_none", "True"),), most=0),
)
