"""Models and inputs in float32 instead of float64, also as the default dtype: the remedy undoes what the program asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.outermost_calls import Call, around_training_calls, before_first_call, each_tensor
from mfu_doctor.trial.remedies.patches import replace
from mfu_doctor.trial.remedies.remedy import Numerics, Remedy

_NAME = "float32"


def _apply(_: str | None) -> None:
    import torch

    def kept(original: Callable[..., Any]) -> Callable[..., Any]:
        def set_default_dtype(d: Any) -> None:
            if d == torch.float64:
                took_effect(_NAME)
            else:
                original(d)

        return set_default_dtype

    replace(torch, "set_default_dtype", kept)
    before_first_call(_in_float32)
    around_training_calls(_with_float32)


def _in_float32(module: Any) -> None:
    import torch

    if any(parameter.dtype == torch.float64 for parameter in module.parameters()):
        module.float()  # the parameters stay the same objects, which the optimizer has
        took_effect(_NAME)


def _with_float32(_: Any, call: Call, *args: Any, **kwargs: Any) -> Any:
    args, kwargs = each_tensor((args, kwargs), _narrowed)
    return call(*args, **kwargs)


def _narrowed(tensor: Any) -> Any:
    import torch

    return tensor.float() if tensor.dtype == torch.float64 else tensor


FLOAT32 = Remedy(
    name=_NAME,
    answers=("fp64-work",),
    words="the model and its inputs are float32, also where the program asks for float64",
    line="model.float(), and float32 inputs",
    numerics=Numerics.CHANGES,
    why_not=whether.always,
    apply=_apply,
)
