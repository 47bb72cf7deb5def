"""Gradient clipping that takes all gradients at once, where the program passes foreach=False."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import change_arguments
from mfu_doctor.trial.remedies.remedy import Keywords, Numerics, Remedy

_NAME = "foreach-clipping"


def _apply(_: str | None) -> None:
    from torch.nn import utils
    from torch.nn.utils import clip_grad

    def change(given: dict[str, Any]) -> None:
        if not given.get("foreach"):
            given["foreach"] = True
            took_effect(_NAME)

    original: Callable[..., Any] = clip_grad.clip_grad_norm_
    change_arguments(clip_grad, change, original.__name__)
    utils.clip_grad_norm_ = clip_grad.clip_grad_norm_


FOREACH_CLIPPING = Remedy(
    name=_NAME,
    answers=("unfused-clipping",),
    words="gradient clipping takes all gradients at once",
    line="clip_grad_norm_(..., foreach=True)",
    numerics=Numerics.ROUNDING,
    why_not=whether.always,
    apply=_apply,
    edit=Keywords(("clip_grad_norm_",), (("foreach", "True"),), most=4),
)
