"""Batches of several times the size, judged by the time of a sample.

Every BatchSampler of torch makes them, also the one inside a DataLoader, so that a loader built from another one (accelerate,
Lightning) is not enlarged twice. A batch sampler that is not derived from torch's keeps its size. So does one with too few
samples to fill such batches: its steps would not have as many times more samples. It takes effect where a model that trains is
given such a batch whole: a program that trains on parts of a fixed size has as many times more steps instead.
"""

from __future__ import annotations

import math
from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import effects, took_effect
from mfu_doctor.trial.remedies.outermost_calls import Call, around_training_calls, each_tensor
from mfu_doctor.trial.remedies.patches import change_arguments
from mfu_doctor.trial.remedies.remedy import COUNT, Numerics, Remedy

_NAME = "batch-size"
_TWICE = "2"
_NEAR = 0.9  # of as many times fewer batches: the last one of an epoch may be smaller


def _apply(setting: str | None) -> None:
    from torch.utils.data import BatchSampler

    times, sizes = int(setting or _TWICE), set[int]()

    def enlarge(given: dict[str, Any]) -> None:
        if _fills(given, times):
            given["batch_size"] *= times
            sizes.add(given["batch_size"])

    def look(_module: Any, call: Call, *args: Any, **kwargs: Any) -> Any:
        if sizes and _NAME not in effects() and not sizes.isdisjoint(_rows((args, kwargs))):
            took_effect(_NAME)
        return call(*args, **kwargs)

    change_arguments(BatchSampler, enlarge)
    around_training_calls(look)


def _rows(given: Any) -> set[int]:
    """The rows of each tensor that a model is given."""
    found = set[int]()
    each_tensor(given, lambda tensor: found.add(tensor.shape[0]) if tensor.dim() else None)
    return found


def _fills(given: dict[str, Any], times: int) -> bool:
    """Whether batches of so many times the size are as full as those of the program."""
    size = given["batch_size"]
    if not isinstance(size, int) or size < 1:
        return False  # torch refuses it, or no batches are made
    try:
        samples = len(given["sampler"])
    except (TypeError, NotImplementedError):
        return True  # it has no end, or none that is known
    if given["drop_last"]:
        return samples >= times * size
    return math.ceil(samples / size) >= _NEAR * times * math.ceil(samples / (times * size))


BATCH_SIZE = Remedy(
    name=_NAME,
    answers=("spare-memory", "small-matmul", "host-bound"),
    words="batches of {setting} times the size: training goes another way, and its learning rate may have to be set again",
    line="DataLoader(..., batch_size={setting} * batch_size)",
    numerics=Numerics.CHANGES,
    why_not=whether.with_loader(lambda _: True, ""),
    apply=_apply,
    settings=COUNT,
    setting=lambda _: _TWICE,
    samples=lambda setting: float(setting or _TWICE),
)
