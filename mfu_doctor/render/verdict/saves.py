"""What fixing a finding saves, in the words of every form of a verdict."""

from __future__ import annotations

from mfu_doctor.render.words import wording
from mfu_doctor.result.findings import AT_STAKE, asks
from mfu_doctor.result.verdict import Check


def saves(check: Check, dash: str = "-") -> str:
    """The predicted saving and how that amount is known: "fixing saves 31 ms per step, modelled"; empty if there is none.

    Where the fix is a question nothing is promised: "31 ms per step are at stake; what gets them back is not known yet".
    """
    if check.saving is None:
        return ""
    known = f", {check.sure}" if check.sure else ""
    time = f"{wording.time_saved(check.saving, dash)} per step"
    return f"{time} {AT_STAKE}{known}" if asks(check.fix) else f"fixing saves {time}{known}"
