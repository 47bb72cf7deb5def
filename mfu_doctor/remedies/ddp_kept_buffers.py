"""DistributedDataParallel does not broadcast buffers in each forward pass: each rank keeps its own batch norm statistics."""

from __future__ import annotations

from mfu_doctor.remedies import whether
from mfu_doctor.remedies.ddp_switches import switch
from mfu_doctor.remedies.remedy import Keywords, Numerics, Remedy

_NAME = "ddp-kept-buffers"

DDP_KEPT_BUFFERS = Remedy(
    name=_NAME,
    answers=("scalar-collectives",),
    words="buffers are not broadcast across ranks: each keeps its own batch norm statistics",
    line="DistributedDataParallel(..., broadcast_buffers=False)",
    numerics=Numerics.CHANGES,
    why_not=whether.on_many_ranks,
    apply=lambda _: switch(_NAME, "broadcast_buffers", to=False),
    edit=Keywords(("DistributedDataParallel", "DDP"), (("broadcast_buffers", "False"),)),
)
