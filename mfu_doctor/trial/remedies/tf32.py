"""TF32 for products of fp32 matrices. A program that sets the precision itself keeps its own."""

from __future__ import annotations

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import takes_effect_while
from mfu_doctor.trial.remedies.remedy import AfterImports, Numerics, Remedy

_NAME = "tf32"


def _apply(_: str | None) -> None:
    import torch

    torch.set_float32_matmul_precision("high")
    takes_effect_while(_NAME, lambda: torch.get_float32_matmul_precision() != "highest")


TF32 = Remedy(
    name=_NAME,
    answers=("tf32-off", "fp32-matmul"),
    words="products of fp32 matrices run in TF32, with 10 bits of the mantissa instead of 23",
    line='torch.set_float32_matmul_precision("high")',
    numerics=Numerics.CHANGES,
    why_not=whether.both(whether.on_gpu, whether.natively("tf32")),
    apply=_apply,
    edits=(AfterImports(('torch.set_float32_matmul_precision("high")',)),),
)
