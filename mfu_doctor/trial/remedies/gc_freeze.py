"""Objects made before training are never visited by the garbage collector again: frozen after the first optimizer step."""

from __future__ import annotations

import gc

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.first_step import after_first_step
from mfu_doctor.trial.remedies.remedy import Numerics, Remedy

_NAME = "gc-freeze"


def _apply(_: str | None) -> None:
    def freeze() -> None:
        gc.collect()
        gc.freeze()
        took_effect(_NAME)

    after_first_step(freeze)


GC_FREEZE = Remedy(
    name=_NAME,
    answers=("gc-pause",),
    words="the garbage collector never visits the model and the data again",
    line="gc.collect(); gc.freeze()  # after the model and the data are built",
    numerics=Numerics.SAME,
    why_not=whether.always,
    apply=_apply,
)
