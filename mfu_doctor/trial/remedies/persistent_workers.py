"""Workers that stay from epoch to epoch, where a DataLoader has workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import change_arguments, replace
from mfu_doctor.trial.remedies.remedy import Keywords, Numerics, Remedy
from mfu_doctor.trial.remedies.trainers import training_arguments

_NAME = "persistent-workers"


def _apply(_: str | None) -> None:
    from torch.utils.data import DataLoader

    changed = False

    def keep(given: dict[str, Any]) -> None:
        nonlocal changed
        if given.get("num_workers", 0) and not given.get("persistent_workers", False):
            given["persistent_workers"] = changed = True

    def again(original: Callable[..., Any]) -> Callable[..., Any]:
        def begin(loader: Any) -> Any:
            if changed and loader.persistent_workers and getattr(loader, "_iterator", None) is not None:
                took_effect(_NAME)  # a later epoch: in the first one the workers start as ever
            return original(loader)

        return begin

    change_arguments(DataLoader, keep)
    replace(DataLoader, "__iter__", again)


PERSISTENT_WORKERS = Remedy(
    name=_NAME,
    answers=("cold-workers",),
    words="the workers stay from epoch to epoch",
    line="DataLoader(..., persistent_workers=True)",
    numerics=Numerics.ORDER,  # each epoch goes on with the generators of the one before it
    why_not=whether.with_loader(lambda loader: loader.num_workers > 0, "no DataLoader has workers"),
    apply=_apply,
    edits=(
        training_arguments(("dataloader_persistent_workers", "True"), needs=("dataloader_num_workers",)),
        Keywords(("DataLoader",), (("persistent_workers", "True"),), needs=("num_workers",)),
    ),
)
