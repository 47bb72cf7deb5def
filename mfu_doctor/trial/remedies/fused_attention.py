"""Every fused kernel for attention is allowed, and models of transformers use them: what the program forbids is undone.

This reaches attention that goes through torch's scaled_dot_product_attention, and models of transformers that have a setting for
it. Attention that the program computes by hand stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.outermost_calls import before_first_call
from mfu_doctor.trial.remedies.patches import change_arguments
from mfu_doctor.trial.remedies.remedy import Numerics, Remedy

_NAME = "fused-attention"
_SWITCHES = ("enable_flash_sdp", "enable_mem_efficient_sdp", "enable_cudnn_sdp")
_EAGER, _FUSED = "eager", "sdpa"  # as transformers names them


def _apply(_: str | None) -> None:
    import torch
    from torch.nn import attention

    def switch(given: dict[str, Any]) -> None:
        if not given["enabled"]:
            given["enabled"] = True
            took_effect(_NAME)

    def backends(given: dict[str, Any]) -> None:
        given["backends"] = _all_backends()
        took_effect(_NAME)

    for name in _SWITCHES:
        if hasattr(torch.backends.cuda, name):
            change_arguments(torch.backends.cuda, switch, name)
    change_arguments(attention, backends, "sdpa_kernel")
    before_first_call(_go_through_torch)


def _all_backends() -> list[Any]:
    from torch.nn.attention import SDPBackend

    names = ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "MATH")
    return [getattr(SDPBackend, name) for name in names if hasattr(SDPBackend, name)]


def _go_through_torch(module: Any) -> None:
    for model in module.modules():
        choose: Callable[[str], None] | None = getattr(model, "set_attn_implementation", None)
        current = getattr(getattr(model, "config", None), "_attn_implementation", None)
        if choose is not None and current == _EAGER and getattr(model, "_supports_sdpa", False):
            choose(_FUSED)
            took_effect(_NAME)


FUSED_ATTENTION = Remedy(
    name=_NAME,
    answers=("unfused-attention",),
    words="attention may use every fused kernel, also where the program forbids it; its dropout draws other random numbers",
    line='from_pretrained(..., attn_implementation="sdpa"), or no sdpa_kernel() and enable_flash_sdp(False)',
    numerics=Numerics.ORDER,
    why_not=whether.always,
    apply=_apply,
)
