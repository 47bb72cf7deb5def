"""No autocast: every region of the program's is disabled. This undoes what the program asks for, which is the remedy."""

from __future__ import annotations

from mfu_doctor.trial.remedies.patches import switch
from mfu_doctor.trial.remedies.remedy import Circumstances, Numerics, Remedy

_NAME = "autocast-off"


def _why_not(circumstances: Circumstances) -> str | None:
    precision = circumstances.precision
    return "no autocast was used" if precision is not None and precision.autocast_dtype is None else None


def _apply(_: str | None) -> None:
    import torch

    switch(_NAME, torch.autocast, "enabled", to=False)


AUTOCAST_OFF = Remedy(
    name=_NAME,
    answers=("emulated-dtype",),
    words="no autocast, also where the program asks for it",
    line="torch.autocast(..., enabled=False)",
    numerics=Numerics.CHANGES,
    why_not=_why_not,
    apply=_apply,
)
