"""Larger buckets of DistributedDataParallel: smaller ones that the program asks for are replaced, which is the remedy."""

from __future__ import annotations

from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import change_arguments
from mfu_doctor.trial.remedies.remedy import COUNT, Keywords, Numerics, Remedy

_NAME = "ddp-buckets"
_DEFAULT = 25  # MB, torch's


def _apply(setting: str | None) -> None:
    from torch.nn.parallel import DistributedDataParallel

    size = int(setting or _DEFAULT)

    def change(given: dict[str, Any]) -> None:
        if (given.get("bucket_cap_mb") or _DEFAULT) < size:
            given["bucket_cap_mb"] = size
            took_effect(_NAME)

    change_arguments(DistributedDataParallel, change)


DDP_BUCKETS = Remedy(
    name=_NAME,
    answers=("small-buckets",),
    words="gradients are reduced in buckets of {setting} MB",
    line="DistributedDataParallel(..., bucket_cap_mb={setting})",
    numerics=Numerics.ROUNDING,
    why_not=whether.on_many_ranks,
    apply=_apply,
    settings=COUNT,
    setting=lambda _: str(_DEFAULT),
    edits=(Keywords(("DistributedDataParallel", "DDP"), (("bucket_cap_mb", "{setting}"),), most=7),),
)
