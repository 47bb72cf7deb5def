"""No scaling of gradients that are computed in bf16: every GradScaler is disabled, which the remedy is."""

from __future__ import annotations

from mfu_doctor.trial.remedies.patches import switch
from mfu_doctor.trial.remedies.remedy import Circumstances, Keywords, Numerics, Remedy

_NAME = "no-grad-scaler"


def _why_not(circumstances: Circumstances) -> str | None:
    precision = circumstances.precision
    in_fp16 = precision is not None and (precision.autocast_dtype or "").removeprefix("torch.") == "float16"
    return "gradients in fp16 need the scaler" if in_fp16 else None


def _apply(_: str | None) -> None:
    from torch.amp.grad_scaler import GradScaler

    switch(_NAME, GradScaler, "enabled", to=False)


NO_GRAD_SCALER = Remedy(
    name=_NAME,
    answers=("needless-grad-scaler",),
    words="gradients are not scaled",
    line="GradScaler(..., enabled=False)",
    numerics=Numerics.CHANGES,  # a step that the scaler skipped is made
    why_not=_why_not,
    apply=_apply,
    edits=(Keywords(("GradScaler",), (("enabled", "False"),), most=4),),
)
