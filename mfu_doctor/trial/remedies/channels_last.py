"""Models with convolutions, and the images that they get, with the channels last in memory."""

from __future__ import annotations

import weakref
from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.outermost_calls import Call, around_training_calls, each_tensor
from mfu_doctor.trial.remedies.remedy import Numerics, Remedy

_NAME = "channels-last"
_IMAGES = 4  # dimensions: batch, channels, height, width


def _apply(_: str | None) -> None:
    convert = _Conversion()
    around_training_calls(convert.around)


class _Conversion:
    """Converts each model once and its inputs in each call."""

    def __init__(self) -> None:
        self._convolve: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()

    def around(self, module: Any, call: Call, *args: Any, **kwargs: Any) -> Any:
        if module not in self._convolve:
            self._convolve[module] = _converted(module)
        if self._convolve[module]:
            args, kwargs = each_tensor((args, kwargs), _last)
        return call(*args, **kwargs)


def _converted(module: Any) -> bool:
    import torch

    if not any(isinstance(inner, torch.nn.Conv2d | torch.nn.ConvTranspose2d) for inner in module.modules()):
        return False
    module.to(memory_format=torch.channels_last)  # the parameters stay the same objects, which the optimizer has
    took_effect(_NAME)
    return True


def _last(tensor: Any) -> Any:
    import torch

    images = tensor.dim() == _IMAGES and tensor.is_floating_point()
    return tensor.contiguous(memory_format=torch.channels_last) if images else tensor


CHANNELS_LAST = Remedy(
    name=_NAME,
    answers=("layout-conversion", "slow-convolution-backward"),
    words="the model and its images have the channels last in memory",
    line="model, images = (x.to(memory_format=torch.channels_last) for x in (model, images))",
    numerics=Numerics.ROUNDING,
    why_not=whether.always,
    apply=_apply,
)
