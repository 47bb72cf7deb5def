"""What the program compiles is compiled for sizes that vary, where it does not say for which."""

from __future__ import annotations

from typing import Any

from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import change_arguments
from mfu_doctor.trial.remedies.remedy import Circumstances, Keywords, Numerics, Remedy

_NAME = "dynamic-shapes"


def _why_not(circumstances: Circumstances) -> str | None:
    facts = circumstances.facts
    return "nothing was compiled" if facts is not None and facts.compile is None else None


def _apply(_: str | None) -> None:
    import torch

    def change(given: dict[str, Any]) -> None:
        if given.get("dynamic") is None:
            given["dynamic"] = True
            took_effect(_NAME)

    change_arguments(torch, change, "compile")


DYNAMIC_SHAPES = Remedy(
    name=_NAME,
    answers=("recompilation",),
    words="compiled code takes sizes that vary",
    line="torch.compile(..., dynamic=True)",
    numerics=Numerics.ROUNDING,
    why_not=_why_not,
    apply=_apply,
    edits=(Keywords(("torch.compile",), (("dynamic", "True"),), is_function=True),),
)
