"""DistributedDataParallel reduces gradients in bf16, unless the program has a hook of its own for them."""

from __future__ import annotations

from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.outermost_calls import before_first_call
from mfu_doctor.trial.remedies.remedy import Numerics, Remedy

_NAME = "ddp-bf16-gradients"


def _register(module: Any) -> None:
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
    from torch.nn.parallel import DistributedDataParallel

    if isinstance(module, DistributedDataParallel) and not getattr(module, "_comm_hooks", None):
        module.register_comm_hook(None, default_hooks.bf16_compress_hook)
        took_effect(_NAME)


DDP_BF16_GRADIENTS = Remedy(
    name=_NAME,
    answers=("fp32-gradients",),
    words="gradients are reduced across ranks in bf16",
    line="model.register_comm_hook(None, torch.distributed.algorithms.ddp_comm_hooks.default_hooks.bf16_compress_hook)",
    numerics=Numerics.CHANGES,
    why_not=whether.both(whether.on_gpu, whether.on_many_ranks),  # the hook is for NCCL,
    apply=lambda _: before_first_call(_register),
)
