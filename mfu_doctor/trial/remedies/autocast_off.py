"""No autocast: every region of the program's is disabled. This undoes what the program asks for, which is the remedy."""

from __future__ import annotations

from typing import Any

from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import change_arguments
from mfu_doctor.trial.remedies.remedy import Circumstances, Numerics, Remedy

_NAME = "autocast-off"


def _why_not(circumstances: Circumstances) -> str | None:
    precision = circumstances.facts.precision if circumstances.facts is not None else None
    return "no autocast was used" if precision is not None and precision.autocast_dtype is None else None


def _apply(_: str | None) -> None:
    import torch

    def change(given: dict[str, Any]) -> None:
        if given.get("enabled", True):
            given["enabled"] = False
            took_effect(_NAME)

    change_arguments(torch.autocast, change)


AUTOCAST_OFF = Remedy(
    name=_NAME,
    answers=("emulated-dtype",),
    words="no autocast, also where the program asks for it",
    line="torch.autocast(..., enabled=False)",
    numerics=Numerics.CHANGES,
    why_not=_why_not,
    apply=_apply,
)
