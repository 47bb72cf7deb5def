"""Segments of GPU memory that can grow. It is set before the allocator starts; a program's own setting of it stays."""

from __future__ import annotations

import os

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import takes_effect_while
from mfu_doctor.trial.remedies.remedy import Numerics, Remedy

_NAME = "expandable-segments"
_OPTION = "expandable_segments"
_WANTED = f"{_OPTION}:True"
# The second is the name since torch 2.9, which reads the first as well.
_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def _apply(_: str | None) -> None:
    variable = next((name for name in _VARIABLES if os.environ.get(name)), _VARIABLES[0])
    given = os.environ.get(variable, "")
    if _OPTION not in given:
        os.environ[variable] = f"{given},{_WANTED}" if given else _WANTED
        takes_effect_while(_NAME, lambda: _WANTED in os.environ.get(variable, ""))


EXPANDABLE_SEGMENTS = Remedy(
    name=_NAME,
    answers=("allocator-churn", "allocator-retry"),
    words="segments of GPU memory can grow",
    line=f"PYTORCH_CUDA_ALLOC_CONF={_WANTED} in the environment",
    numerics=Numerics.SAME,
    why_not=whether.on_gpu,
    apply=_apply,
)
