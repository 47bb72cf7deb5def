"""The verdict on a run: one sentence on what limits it and what can be saved, and the values that it says.

Made once, by the diagnosis; every output shows this sentence. (The outcome of a check is another thing: `verdict.Verdict`.)
"""

from __future__ import annotations

from dataclasses import dataclass

from mfu_doctor.result.findings import GUESSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What has most of the step."""

    owner: str  # a bucket, a cause of idle time, or "host": launching and Python together
    seconds: float
    share: float
    bound: str | None = None  # "input-bound", ...: only of what has more than half of the step


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """The largest loss that a known fix recovers: the first of the ranked fixes."""

    rule: str
    place: str | None = None
    saving_s: float | None = None  # best estimate; None: it could not be predicted, or is no step time
    sure: str = GUESSED  # measured, modelled, guessed


@dataclass(frozen=True, slots=True, kw_only=True)
class RunVerdict:
    """What limits a run, and what to do first."""

    sentence: str
    limit: Limit | None = None
    loss: Loss | None = None

    def __str__(self) -> str:
        return self.sentence
