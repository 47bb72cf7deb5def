"""Gradients are dropped, not set to zero: `zero_grad(set_to_none=False)` of optimizers and modules does what its default does."""

from __future__ import annotations

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.patches import switch
from mfu_doctor.trial.remedies.remedy import Keywords, Numerics, Remedy

_NAME = "zero-grad-to-none"


def _apply(_: str | None) -> None:
    import torch

    for kind in (torch.optim.Optimizer, torch.nn.Module):
        switch(_NAME, kind, "set_to_none", to=True, name="zero_grad")


ZERO_GRAD_TO_NONE = Remedy(
    name=_NAME,
    answers=("zeroed-gradients",),
    words="gradients are dropped, not set to zero; a parameter that a step does not use is then not updated by it",
    line="optimizer.zero_grad(set_to_none=True)",
    numerics=Numerics.CHANGES,  # only with such parameters
    why_not=whether.always,
    apply=_apply,
    edits=(Keywords(("zero_grad",), (("set_to_none", "True"),), needs=("set_to_none",), places=("set_to_none",)),),
)
