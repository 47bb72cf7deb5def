"""Forward passes of the models that train in bf16, as with an autocast around each of them.

A model inside an autocast region of the program's, even a disabled one, is left alone; so is evaluation without gradients. What a
model returns in bf16 is handed on in fp32, so that losses and metrics see the dtype that they were written for. A loss that is a
part of the model is under the same autocast.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.outermost_calls import Call, around_training_calls, each_tensor
from mfu_doctor.trial.remedies.remedy import Circumstances, Numerics, Remedy
from mfu_doctor.trial.remedies.trainers import lightning_trainer, training_arguments

_NAME = "bf16-autocast"


def _why_not(circumstances: Circumstances) -> str | None:
    precision = circumstances.precision
    used = precision is not None and precision.autocast_dtype is not None
    return "the program uses autocast itself" if used else whether.natively("bf16")(circumstances)


def _apply(_: str | None) -> None:
    around_training_calls(_autocasting)


def _autocasting(module: Any, call: Call, *args: Any, **kwargs: Any) -> Any:
    import torch

    device = _device_of_fp32(module)
    if device is None or _in_autocast():
        return call(*args, **kwargs)
    took_effect(_NAME)
    with torch.autocast(device, torch.bfloat16):
        result = call(*args, **kwargs)
    return each_tensor(result, _in_fp32)


def _device_of_fp32(module: Any) -> str | None:
    """Type of the device that trains weights in fp32; None if none does."""
    import torch

    trained = (p for p in module.parameters() if p.requires_grad and p.dtype == torch.float32)
    return next((str(p.device.type) for p in trained), None)


def _in_autocast() -> bool:
    """Whether this is inside a region, which may be a disabled one: only the count of nested regions tells."""
    import torch

    nested = torch.autocast_increment_nesting()
    torch.autocast_decrement_nesting()
    return nested > 1


def _in_fp32(tensor: Any) -> Any:
    import torch

    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


BF16_AUTOCAST = Remedy(
    name=_NAME,
    answers=("fp32-matmul",),
    words="the forward pass runs in bf16 where that is safe",
    line="with torch.autocast(device.type, dtype=torch.bfloat16):  # around forward and loss",
    numerics=Numerics.CHANGES,
    why_not=_why_not,
    apply=_apply,
    edits=(
        replace(training_arguments(("bf16", "True")), on_gpu=True),  # without one, transformers refuses it
        lightning_trainer(("precision", '"bf16-mixed"')),
    ),
)
