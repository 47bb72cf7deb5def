"""Batches in pinned memory, from which a GPU copies faster."""

from __future__ import annotations

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.patches import switch
from mfu_doctor.trial.remedies.remedy import Keywords, Numerics, Remedy
from mfu_doctor.trial.remedies.trainers import training_arguments

_NAME = "pin-memory"


def _apply(_: str | None) -> None:
    from torch.utils.data import DataLoader

    switch(_NAME, DataLoader, "pin_memory", to=True)


PIN_MEMORY = Remedy(
    name=_NAME,
    answers=("pageable-copy",),
    words="the DataLoader hands out batches in pinned memory",
    line="DataLoader(..., pin_memory=True)",
    numerics=Numerics.SAME,
    why_not=whether.both(
        whether.on_gpu, whether.with_loader(lambda loader: not loader.pin_memory, "batches are pinned already")
    ),
    apply=_apply,
    edits=(
        training_arguments(("dataloader_pin_memory", "True"), needs=("dataloader_pin_memory",)),
        Keywords(("DataLoader",), (("pin_memory", "True"),), most=7),
    ),
)
