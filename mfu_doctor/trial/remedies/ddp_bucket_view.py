"""Gradients that lie in the buckets of DistributedDataParallel: the copies into them are spared."""

from __future__ import annotations

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.patches import switch
from mfu_doctor.trial.remedies.remedy import Keywords, Numerics, Remedy

_NAME = "ddp-bucket-view"


def _apply(_: str | None) -> None:
    from torch.nn.parallel import DistributedDataParallel

    switch(_NAME, DistributedDataParallel, "gradient_as_bucket_view", to=True)


DDP_BUCKET_VIEW = Remedy(
    name=_NAME,
    answers=(),
    words="gradients lie in the buckets that are reduced, and are not copied there",
    line="DistributedDataParallel(..., gradient_as_bucket_view=True)",
    numerics=Numerics.SAME,
    why_not=whether.on_many_ranks,
    apply=_apply,
    edits=(Keywords(("DistributedDataParallel", "DDP"), (("gradient_as_bucket_view", "True"),), most=10),),
)
