"""What fixing a finding saves, in the words of every form of a verdict."""

from __future__ import annotations

from mfu_doctor.render.words import wording
from mfu_doctor.result.verdict import Check


def saves(check: Check, dash: str = "-") -> str:
    """The predicted saving and how that amount is known: "fixing saves 31 ms per step, modelled"; empty if there is none."""
    if check.saving is None:
        return ""
    known = f", {check.sure}" if check.sure else ""
    return f"fixing saves {wording.time_saved(check.saving, dash)} per step{known}"
