"""Collectives of GPU tensors go through NCCL where the program asks for Gloo or MPI; those of CPU tensors stay."""

from __future__ import annotations

from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import change_arguments
from mfu_doctor.trial.remedies.remedy import Keywords, Numerics, Remedy

_NAME = "nccl-backend"
_SLOW = ("gloo", "mpi")


def _apply(_: str | None) -> None:
    from torch import distributed

    def change(given: dict[str, Any]) -> None:
        if given.get("backend") in _SLOW:
            given["backend"] = f"cpu:{given['backend']},cuda:nccl"
            took_effect(_NAME)

    change_arguments(distributed, change, "init_process_group")


NCCL_BACKEND = Remedy(
    name=_NAME,
    answers=("non-nccl-backend",),
    words="collectives of GPU tensors go through NCCL, also where the program asks for another backend",
    line='init_process_group("cpu:gloo,cuda:nccl")',
    numerics=Numerics.ROUNDING,
    why_not=whether.both(whether.on_gpu, whether.on_many_ranks),
    apply=_apply,
    edits=(Keywords(("init_process_group",), (("backend", '"cpu:gloo,cuda:nccl"'),), most=0, is_function=True),),
)
