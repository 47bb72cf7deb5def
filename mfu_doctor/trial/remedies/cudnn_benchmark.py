"""cuDNN measures its algorithms for convolutions. A program that sets the switch itself keeps its own."""

from __future__ import annotations

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import takes_effect_while
from mfu_doctor.trial.remedies.remedy import AfterImports, Numerics, Remedy

_NAME = "cudnn-benchmark"


def _apply(_: str | None) -> None:
    from torch.backends import cudnn

    cudnn.benchmark = True
    takes_effect_while(_NAME, lambda: bool(cudnn.benchmark))


CUDNN_BENCHMARK = Remedy(
    name=_NAME,
    answers=("unbenchmarked-convolution",),
    words="cuDNN measures which algorithm is fastest for each convolution",
    line="torch.backends.cudnn.benchmark = True",
    numerics=Numerics.ROUNDING,
    why_not=whether.on_gpu,
    apply=_apply,
    edits=(AfterImports(("torch.backends.cudnn.benchmark = True",)),),
)
