"""Activations are kept, not computed again: every checkpoint() of torch calls its function directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace as replace_struct

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import replace
from mfu_doctor.trial.remedies.remedy import Numerics, Remedy
from mfu_doctor.trial.remedies.trainers import training_arguments

_NAME = "no-checkpointing"
# What checkpoint() takes for itself; the function gets all other keywords.
_OWN = ("use_reentrant", "context_fn", "determinism_check", "debug", "early_stop", "preserve_rng_state")


def _apply(_: str | None) -> None:
    from torch.utils import checkpoint as module

    def direct(_original: Callable[..., Any]) -> Callable[..., Any]:
        def checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            took_effect(_NAME)
            return function(*args, **{name: value for name, value in kwargs.items() if name not in _OWN})

        return checkpoint

    replace(module, "checkpoint", direct)


NO_CHECKPOINTING = Remedy(
    name=_NAME,
    answers=("needless-recompute",),
    words="activations are kept for the backward pass, which takes more memory",
    line="model.gradient_checkpointing_disable(), or function(*args) for checkpoint(function, *args)",
    numerics=Numerics.SAME,
    why_not=whether.always,
    apply=_apply,
    edits=tuple(
        replace_struct(
            training_arguments((name, "False"), needs=(name,)),
            against=("gradient_checkpointing_enable", "checkpoint", "checkpoint_sequential"),
        )
        for name in ("gradient_checkpointing", "activation_checkpointing")  # the second one from transformers 5 on
    ),
)
