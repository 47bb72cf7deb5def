"""No scaling of gradients that are computed in bf16: every GradScaler is disabled, which the remedy is."""

from __future__ import annotations

from typing import Any

from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import change_arguments
from mfu_doctor.trial.remedies.remedy import Circumstances, Keywords, Numerics, Remedy

_NAME = "no-grad-scaler"


def _why_not(circumstances: Circumstances) -> str | None:
    precision = circumstances.facts.precision if circumstances.facts is not None else None
    in_fp16 = precision is not None and (precision.autocast_dtype or "").removeprefix("torch.") == "float16"
    return "gradients in fp16 need the scaler" if in_fp16 else None


def _apply(_: str | None) -> None:
    from torch.amp.grad_scaler import GradScaler

    def change(given: dict[str, Any]) -> None:
        if given.get("enabled", True):
            given["enabled"] = False
            took_effect(_NAME)

    change_arguments(GradScaler, change)


NO_GRAD_SCALER = Remedy(
    name=_NAME,
    answers=("needless-grad-scaler",),
    words="gradients are not scaled",
    line="GradScaler(..., enabled=False)",
    numerics=Numerics.CHANGES,  # a step that the scaler skipped is made
    why_not=_why_not,
    apply=_apply,
    edit=Keywords(("GradScaler",), (("enabled", "False"),), most=4),
)
