"""No search for unused parameters in each step of DistributedDataParallel; it fails where there are some."""

from __future__ import annotations

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.patches import switch
from mfu_doctor.trial.remedies.remedy import Keywords, Numerics, Remedy

_NAME = "ddp-no-unused-search"


def _apply(_: str | None) -> None:
    from torch.nn.parallel import DistributedDataParallel

    switch(_NAME, DistributedDataParallel, "find_unused_parameters", to=False)


DDP_NO_UNUSED_SEARCH = Remedy(
    name=_NAME,
    answers=(),
    words="DistributedDataParallel does not search for parameters without a gradient, also where the program asks for it",
    line="DistributedDataParallel(..., find_unused_parameters=False)",
    numerics=Numerics.SAME,
    why_not=whether.on_many_ranks,
    apply=_apply,
    edits=(Keywords(("DistributedDataParallel", "DDP"), (("find_unused_parameters", "False"),), most=8),),
)
