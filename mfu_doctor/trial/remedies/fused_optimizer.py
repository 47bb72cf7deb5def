"""A fused optimizer: one kernel updates many parameters."""

from __future__ import annotations

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.optimizer_implementations import lacking, use
from mfu_doctor.trial.remedies.remedy import Circumstances, Keywords, Numerics, Remedy

_NAME = "fused-optimizer"
_FIRST_ON_CPU = (2, 4)


def _why_not(circumstances: Circumstances) -> str | None:
    old = None if circumstances.on_gpu else whether.since_torch(*_FIRST_ON_CPU)(circumstances)
    return old or lacking("fused", circumstances)


FUSED_OPTIMIZER = Remedy(
    name=_NAME,
    answers=("unfused-optimizer",),
    words="the fused implementation of the optimizer",
    line="torch.optim.AdamW(..., fused=True)",
    numerics=Numerics.ROUNDING,
    why_not=_why_not,
    apply=lambda _: use("fused", _NAME),
    edits=(Keywords(("Adam", "AdamW", "SGD", "Adagrad"), (("fused", "True"),), unless=("foreach", "differentiable")),),
    one_of="optimizer",
)
