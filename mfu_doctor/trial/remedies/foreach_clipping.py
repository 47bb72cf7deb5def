"""Gradient clipping that takes all gradients at once; torch chooses it by itself for gradients on a GPU."""

from __future__ import annotations

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.patches import switch
from mfu_doctor.trial.remedies.remedy import Keywords, Numerics, Remedy

_NAME = "foreach-clipping"


def _apply(_: str | None) -> None:
    from torch.nn import utils
    from torch.nn.utils import clip_grad

    name = clip_grad.clip_grad_norm_.__name__
    switch(_NAME, clip_grad, "foreach", to=True, name=name)
    setattr(utils, name, clip_grad.clip_grad_norm_)


FOREACH_CLIPPING = Remedy(
    name=_NAME,
    answers=("unfused-clipping",),
    words="gradient clipping takes all gradients at once",
    line="clip_grad_norm_(..., foreach=True)",
    numerics=Numerics.ROUNDING,
    why_not=whether.always,
    apply=_apply,
    edits=(Keywords(("clip_grad_norm_",), (("foreach", "True"),), most=4, is_function=True),),
)
