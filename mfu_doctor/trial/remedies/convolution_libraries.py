"""Convolutions by the fast libraries, switched on again when training begins: the remedy undoes what the program asks for."""

from __future__ import annotations

from typing import Any

from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.outermost_calls import before_first_call
from mfu_doctor.trial.remedies.remedy import Circumstances, Numerics, Remedy

_NAME = "convolution-libraries"


def _why_not(circumstances: Circumstances) -> str | None:
    precision = circumstances.precision
    if precision is None:
        return None
    off = precision.cudnn is False if circumstances.on_gpu else precision.onednn is False
    return None if off else "they are on"


def _apply(_: str | None) -> None:
    before_first_call(_switch_on)


def _switch_on(_: Any) -> None:
    from torch.backends import cudnn, mkldnn

    libraries: tuple[Any, ...] = (cudnn, mkldnn)
    for library in libraries:
        if not library.enabled:
            library.enabled = True
            took_effect(_NAME)


CONVOLUTION_LIBRARIES = Remedy(
    name=_NAME,
    answers=("fallback-convolution",),
    words="cuDNN and oneDNN are on, also where the program switches them off",
    line="torch.backends.mkldnn.enabled = True  # and torch.backends.cudnn.enabled on a GPU",
    numerics=Numerics.ROUNDING,
    why_not=_why_not,
    apply=_apply,
)
