"""DistributedDataParallel does not send buffers to all ranks in each forward pass: each keeps its own batch norm statistics."""

from __future__ import annotations

import inspect
from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import change_arguments
from mfu_doctor.trial.remedies.remedy import Numerics, Remedy

_NAME = "ddp-kept-buffers"
_OLD, _NEW = "broadcast_buffers", "forward_sync_buffers"  # the old one is deprecated where there is the new one


def _apply(_: str | None) -> None:
    from torch.nn.parallel import DistributedDataParallel

    argument = _NEW if _NEW in inspect.signature(DistributedDataParallel.__init__).parameters else _OLD

    def change(given: dict[str, Any]) -> None:
        if False in (given.get(_NEW), given.get(_OLD)):
            return
        given.pop(_OLD, None)
        given[argument] = False
        took_effect(_NAME)

    change_arguments(DistributedDataParallel, change)


DDP_KEPT_BUFFERS = Remedy(
    name=_NAME,
    answers=("scalar-collectives",),
    words="buffers are not sent to all ranks: each keeps its own batch norm statistics",
    line=f"DistributedDataParallel(..., {_NEW}=False)  # in older versions of torch {_OLD}=False",
    numerics=Numerics.CHANGES,
    why_not=whether.on_many_ranks,
    apply=_apply,
)
