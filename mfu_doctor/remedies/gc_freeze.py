"""Objects made before training are never visited by the garbage collector again: frozen after the first optimizer step."""

from __future__ import annotations

import gc
from typing import Any

from mfu_doctor.remedies import whether
from mfu_doctor.remedies.effects import took_effect
from mfu_doctor.remedies.remedy import Numerics, Remedy

_NAME = "gc-freeze"


def _apply(_: str | None) -> None:
    from torch.optim.optimizer import register_optimizer_step_post_hook

    def freeze(*_: Any) -> None:
        hook.remove()
        gc.collect()
        gc.freeze()
        took_effect(_NAME)

    hook = register_optimizer_step_post_hook(freeze)


GC_FREEZE = Remedy(
    name=_NAME,
    answers=("gc-pause",),
    words="the garbage collector never visits the model and the data again",
    line="gc.collect(); gc.freeze()  # after the model and the data are built",
    numerics=Numerics.SAME,
    why_not=whether.always,
    apply=_apply,
)
