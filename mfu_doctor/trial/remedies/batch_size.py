"""Batches of several times the size, judged by the time of a sample.

Every BatchSampler of torch makes them, also the one inside a DataLoader, so that a loader built from another one (accelerate,
Lightning) is not enlarged twice. A batch sampler that is not derived from torch's keeps its size.
"""

from __future__ import annotations

from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import change_arguments
from mfu_doctor.trial.remedies.remedy import Numerics, Remedy

_NAME = "batch-size"
_TWICE = "2"


def _apply(setting: str | None) -> None:
    from torch.utils.data import BatchSampler

    times = int(setting or _TWICE)

    def change(given: dict[str, Any]) -> None:
        if isinstance(given["batch_size"], int):
            given["batch_size"] *= times
            took_effect(_NAME)

    change_arguments(BatchSampler, change)


BATCH_SIZE = Remedy(
    name=_NAME,
    answers=("spare-memory", "small-matmul", "host-bound"),
    words="batches of {setting} times the size: training goes another way, and its learning rate may have to be set again",
    line="DataLoader(..., batch_size={setting} * batch_size)",
    numerics=Numerics.CHANGES,
    why_not=whether.with_loader(lambda _: True, ""),
    apply=_apply,
    setting=lambda _: _TWICE,
    samples=lambda setting: float(setting or _TWICE),
)
