"""More batches loaded ahead by each worker, where the program leaves their number at torch's default."""

from __future__ import annotations

from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import change_arguments
from mfu_doctor.trial.remedies.remedy import COUNT, Circumstances, Keywords, Numerics, Remedy
from mfu_doctor.trial.remedies.trainers import training_arguments

_NAME = "prefetch-factor"
_DEFAULT = 2  # torch's, for None


def _setting(circumstances: Circumstances) -> str:
    """What the report advises; else twice the default."""
    advised = whether.advised(r"prefetch_factor=(\d+)", ("slow-sample",))(circumstances)
    return advised or str(2 * _DEFAULT)


def _apply(setting: str | None) -> None:
    from torch.utils.data import DataLoader

    ahead = int(setting or 2 * _DEFAULT)

    def change(given: dict[str, Any]) -> None:
        if given.get("num_workers", 0) and given.get("prefetch_factor") in (None, _DEFAULT) and ahead != _DEFAULT:
            given["prefetch_factor"] = ahead
            took_effect(_NAME)

    change_arguments(DataLoader, change)


PREFETCH_FACTOR = Remedy(
    name=_NAME,
    answers=("slow-sample",),
    words="each worker loads {setting} batches ahead",
    line="DataLoader(..., prefetch_factor={setting})",
    numerics=Numerics.ORDER,  # a sampler that draws from the global generator draws earlier
    why_not=whether.with_loader(lambda loader: loader.num_workers > 0, "no DataLoader has workers"),
    apply=_apply,
    settings=COUNT,
    setting=_setting,
    edits=(
        training_arguments(("dataloader_prefetch_factor", "{setting}"), needs=("dataloader_num_workers",)),
        Keywords(("DataLoader",), (("prefetch_factor", "{setting}"),), needs=("num_workers",)),
    ),
)
