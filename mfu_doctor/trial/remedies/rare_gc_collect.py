"""One call of gc.collect() in a hundred runs: the remedy replaces what the program asks for."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import replace
from mfu_doctor.trial.remedies.remedy import Numerics, Remedy

_NAME = "rare-gc-collect"
_EVERY = 100


def _apply(_: str | None) -> None:
    def rarely(original: Callable[..., int]) -> Callable[..., int]:
        calls = 0

        def collect(*args: Any, **kwargs: Any) -> int:
            nonlocal calls
            calls += 1
            if calls % _EVERY == 1:
                return original(*args, **kwargs)
            took_effect(_NAME)
            return 0

        return collect

    replace(gc, "collect", rarely)


RARE_GC_COLLECT = Remedy(
    name=_NAME,
    answers=("gc-pause",),
    words=f"gc.collect() runs in one of {_EVERY} calls",
    line=f"if step % {_EVERY} == 0: gc.collect()",
    numerics=Numerics.SAME,
    why_not=whether.always,
    apply=_apply,
)
