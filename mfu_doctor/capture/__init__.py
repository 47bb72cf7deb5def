"""The live half: `profile()` around a training loop, its device samples and its facts. The only place that imports torch.

The exact FLOP count is looked up on first use, because its module needs torch at once, and `profile()` only in a
block.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mfu_doctor.capture.recorder import Recorder, profile

if TYPE_CHECKING:
    from mfu_doctor.capture.flop_counter import count_flops
    from mfu_doctor.capture.flop_report import FlopReport
    from mfu_doctor.capture.op_formulas import flop_formula

__all__ = ["FlopReport", "Recorder", "count_flops", "flop_formula", "profile"]

_HOMES = {"FlopReport": "flop_report", "count_flops": "flop_counter", "flop_formula": "op_formulas"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"mfu_doctor.capture.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'mfu_doctor.capture' has no attribute {name!r}")
