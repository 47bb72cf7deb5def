"""Workers that load the batches: the number of every map-style DataLoader, whatever the program passes.

The dataset of an iterable-style loader decides itself what each worker yields; without that it would yield all samples once per
worker, so those loaders stay as they are.
"""

from __future__ import annotations

from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import change_arguments
from mfu_doctor.trial.remedies.remedy import COUNT, Circumstances, Keywords, Numerics, Remedy
from mfu_doctor.trial.remedies.trainers import training_arguments

_NAME = "loader-workers"
_RULES = ("input-bound", "slow-sample")


def _setting(circumstances: Circumstances) -> str:
    """What the report advises; else all cores but the one that trains, and at most four: more are rarely needed."""
    spare = min(int(circumstances.cores or 2) - 1, 4)
    return whether.advised(r"num_workers=(\d+)", _RULES)(circumstances) or str(max(spare, 1))


def _apply(setting: str | None) -> None:
    from torch.utils.data import DataLoader, IterableDataset

    workers = int(setting or 1)

    def change(given: dict[str, Any]) -> None:
        if isinstance(given["dataset"], IterableDataset) or given.get("num_workers", 0) == workers:
            return
        given["num_workers"], given["persistent_workers"] = workers, True
        took_effect(_NAME)

    change_arguments(DataLoader, change)


LOADER_WORKERS = Remedy(
    name=_NAME,
    answers=_RULES,
    words="{setting} workers load the batches, and stay from epoch to epoch",
    line="DataLoader(..., num_workers={setting}, persistent_workers=True)",
    numerics=Numerics.ORDER,  # each worker has a random generator of its own
    why_not=whether.with_loader(lambda _: True, ""),
    apply=_apply,
    settings=COUNT,
    setting=_setting,
    edits=(
        training_arguments(("dataloader_num_workers", "{setting}"), ("dataloader_persistent_workers", "True")),
        Keywords(("DataLoader",), (("num_workers", "{setting}"), ("persistent_workers", "True")), most=5),
    ),
)
