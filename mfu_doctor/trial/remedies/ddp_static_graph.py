"""One graph for all steps of DistributedDataParallel, which it then need not search; it fails where steps differ."""

from __future__ import annotations

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.patches import switch
from mfu_doctor.trial.remedies.remedy import Keywords, Numerics, Remedy

_NAME = "ddp-static-graph"


def _apply(_: str | None) -> None:
    from torch.nn.parallel import DistributedDataParallel

    switch(_NAME, DistributedDataParallel, "static_graph", to=True)


DDP_STATIC_GRAPH = Remedy(
    name=_NAME,
    answers=(),
    words="every step of DistributedDataParallel is taken to use the same parameters in the same way",
    line="DistributedDataParallel(..., static_graph=True)",
    numerics=Numerics.SAME,
    why_not=whether.on_many_ranks,
    apply=_apply,
    edits=(Keywords(("DistributedDataParallel", "DDP"), (("static_graph", "True"),), most=11),),
)
