"""The verdict on a run: one sentence on what limits it and what can be saved, and the values that it says.

Made once, by the diagnosis; every output shows this sentence. (The outcome of a check is another thing: `verdict.Verdict`.)
"""

from __future__ import annotations

from msgspec import Struct

from mfu_doctor.result.findings import GUESSED


class Limit(Struct, frozen=True, kw_only=True):
    """What has most of the step."""

    owner: str  # a bucket, a cause of idle time, or "host": launching and Python together
    seconds: float
    share: float
    bound: str | None = None  # "input-bound", ...: only of what has more than half of the step


class Loss(Struct, frozen=True, kw_only=True):
    """The largest loss that a known fix recovers: the first of the ranked fixes."""

    rule: str
    place: str | None = None
    saving_s: float | None = None  # best estimate; None: it could not be predicted, or is no step time
    sure: str = GUESSED  # measured, modelled, guessed


class RunVerdict(Struct, frozen=True, kw_only=True):
    """What limits a run, and what to do first."""

    sentence: str
    limit: Limit | None = None
    loss: Loss | None = None

    def __str__(self) -> str:
        return self.sentence
