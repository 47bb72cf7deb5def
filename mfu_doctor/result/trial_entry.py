"""One line of the record of trials: a fix that was measured, with what was predicted for it."""

from __future__ import annotations

from msgspec import Struct


class Entry(Struct, frozen=True, kw_only=True):
    """One fix that was measured."""

    when: str  # ISO 8601, UTC
    program: str
    device: str | None
    torch: str | None
    rule: str
    fixes: tuple[str, ...]
    verdict: str
    step_s: float  # of the unchanged program
    predicted_low_s: float
    predicted_s: float
    predicted_high_s: float
    saving_low_s: float
    saving_s: float
    saving_high_s: float

    @property
    def error(self) -> float:
        """Of the predicted step against the measured one, as a share."""
        return (self.step_s - self.predicted_s) / (self.step_s - self.saving_s) - 1

    @property
    def is_met(self) -> bool:
        """Whether what was measured and what was predicted have something in common, each with its range."""
        return self.saving_low_s <= self.predicted_high_s and self.predicted_low_s <= self.saving_high_s
