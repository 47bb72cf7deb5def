"""An optimizer that updates all parameters with each operation; torch chooses it by itself for parameters on a GPU."""

from __future__ import annotations

from mfu_doctor.trial.remedies.optimizer_implementations import lacking, use
from mfu_doctor.trial.remedies.remedy import Keywords, Numerics, Remedy

_NAME = "foreach-optimizer"
_CLASSES = ("ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")

FOREACH_OPTIMIZER = Remedy(
    name=_NAME,
    answers=("unfused-optimizer",),
    words="the foreach implementation of the optimizer",
    line="torch.optim.AdamW(..., foreach=True)",
    numerics=Numerics.ROUNDING,
    why_not=lambda circumstances: lacking("foreach", circumstances),
    apply=lambda _: use("foreach", _NAME),
    edits=(Keywords(_CLASSES, (("foreach", "True"),), most=5, unless=("fused", "differentiable")),),
    one_of="optimizer",
)
