"""torch.cuda.empty_cache() does nothing: the remedy replaces what the program asks for."""

from __future__ import annotations

from collections.abc import Callable

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import replace
from mfu_doctor.trial.remedies.remedy import Numerics, Remedy

_NAME = "kept-cache"


def _apply(_: str | None) -> None:
    from torch import cuda

    def nothing(_original: Callable[[], None]) -> Callable[[], None]:
        return lambda: took_effect(_NAME)

    for owner in (cuda, cuda.memory):
        replace(owner, "empty_cache", nothing)


KEPT_CACHE = Remedy(
    name=_NAME,
    answers=("allocator-churn",),
    words="freed GPU memory stays with the program: torch.cuda.empty_cache() does nothing",
    line="no torch.cuda.empty_cache() in the loop",
    numerics=Numerics.SAME,
    why_not=whether.on_gpu,
    apply=_apply,
)
