"""The live half: `profile()` around a training loop, its device samples and its facts. The only place that imports torch.

`count_flops` is looked up on first use, because its module needs torch at once and `profile()` only when a block is entered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mfu_doctor.capture.recorder import Recorder, profile

if TYPE_CHECKING:
    from mfu_doctor.capture.flop_counter import count_flops

__all__ = ["Recorder", "count_flops", "profile"]


def __getattr__(name: str) -> Any:
    if name == "count_flops":
        from mfu_doctor.capture.flop_counter import count_flops

        return count_flops
    raise AttributeError(f"module 'mfu_doctor.capture' has no attribute {name!r}")
