"""The number of threads of CPU operators, whatever the program asks for. Workers of a DataLoader keep their single one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import takes_effect_while
from mfu_doctor.trial.remedies.patches import replace
from mfu_doctor.trial.remedies.remedy import COUNT, AfterImports, Circumstances, Keywords, Numerics, Remedy

_NAME = "threads"
_RULES = ("few-threads", "crowded-cores")


def _setting(circumstances: Circumstances) -> str:
    """What the report advises; else the cores that the program may use."""
    advised = whether.advised(r"set_num_threads\((\d+)\)", (*_RULES, "input-bound"))(circumstances)
    return advised or str(max(int(circumstances.cores or os.cpu_count() or 1), 1))


def _apply(setting: str | None) -> None:
    import torch

    count = int(setting or 1)
    training = os.getpid()

    def fixed(original: Callable[[int], None]) -> Callable[[int], None]:
        def set_num_threads(*args: Any, **kwargs: Any) -> None:
            if os.getpid() != training:
                original(*args, **kwargs)

        return set_num_threads

    torch.set_num_threads(count)
    replace(torch, "set_num_threads", fixed)
    takes_effect_while(_NAME, lambda: torch.get_num_threads() == count)


THREADS = Remedy(
    name=_NAME,
    answers=_RULES,
    words="operators on the CPU use {setting} threads",
    line="torch.set_num_threads({setting})",
    numerics=Numerics.ROUNDING,
    why_not=whether.always,
    apply=_apply,
    settings=COUNT,
    setting=_setting,
    edits=(
        AfterImports(("torch.set_num_threads({setting})",), unless=("set_num_threads",)),
        Keywords(
            ("set_num_threads",), (("count", "{setting}"),), needs=("count",), places=("count",), is_function=True
        ),
    ),
)
