"""What trying the fixes showed: each fix's predicted saving beside the measured one, and what it did to the losses."""

from __future__ import annotations

from msgspec import Struct

BETTER, SAME, WORSE, OPEN = "better", "no difference", "worse", "not settled"
REFUSED, CRASHED, NO_MEMORY, HUNG, SHORT = "refused", "crashed", "out of memory", "hung", "too short"
NO_EFFECT, NOT_TRIED = "no effect", "not tried"
VERDICTS = (BETTER, SAME, WORSE, OPEN, REFUSED, CRASHED, NO_MEMORY, HUNG, SHORT, NO_EFFECT, NOT_TRIED)

IDENTICAL, AS_UNCHANGED, CLOSE, OTHER_ORDER = "identical", "as unchanged", "close", "other order"
DRIFTS, NOT_A_NUMBER, DIVERGES, NO_LOSS = "drifts", "not a number", "diverges", "none"
LOSSES = (IDENTICAL, AS_UNCHANGED, CLOSE, OTHER_ORDER, DRIFTS, NOT_A_NUMBER, DIVERGES, NO_LOSS)
"""What became of the losses: the same bits; no further apart than two unchanged runs; apart by less than a thousandth; of other
batches or random numbers but with the same course; another course; NaN or infinite; ever larger; no loss was seen."""


class Tried(Struct, frozen=True, kw_only=True):
    """One fix, or several together, tried against the unchanged program."""

    fixes: tuple[str, ...]  # "fused-optimizer", "loader-workers=2"
    rule: str | None = None  # whose finding it answers
    words: str = ""
    line: str = ""  # to paste
    numerics: str = ""  # what it may change in the results
    verdict: str = NOT_TRIED  # one of VERDICTS
    reason: str | None = None  # of a verdict that is not about time
    predicted_low_s: float | None = None
    predicted_s: float | None = None
    predicted_high_s: float | None = None
    saving_low_s: float | None = None  # measured, per step of the unchanged program's size; negative: it costs time
    saving_s: float | None = None
    saving_high_s: float | None = None
    noise_s: float | None = None  # how far chance alone moves the saving, by the unchanged runs
    step_s: float | None = None  # with it
    samples: float = 1.0  # of a step, in multiples of the unchanged program's
    runs: int = 0
    loss: str | None = None  # one of LOSSES; None: not compared
    loss_step: int | None = None  # from which the loss is another one
    loss_change: float | None = None  # how far it is from the unchanged one at most, as a share
    start_s: float | None = None  # seconds that it needs more before its steps are as usual, once

    @property
    def name(self) -> str:
        """Its names together."""
        return " + ".join(self.fixes)


class Trial(Struct, frozen=True, kw_only=True):
    """All that was tried on one program."""

    program: str  # as the user wrote it
    budget_s: float
    spent_s: float = 0.0
    runs: int = 0
    steps: int = 0  # of each run, the first ones included
    unchanged_s: float | None = None  # step of the unchanged program
    noise: float | None = None  # how far one unchanged run is from those beside it, as a share
    disturbed_s: tuple[float, ...] = ()  # steps of unchanged runs that are far off all around them, and are left out
    tried: tuple[Tried, ...] = ()
    together: Tried | None = None  # the fixes that help, all at once
    without: tuple[str, ...] = ()  # of those that help alone, what is not in `together`
    patch: str | None = None  # the changes of the answer as a diff
    by_hand: tuple[str, ...] = ()  # lines of the answer whose place is not certain
    by_rules: tuple[str, ...] = ()  # findings whose fix cannot be applied from outside
    ended: str | None = None  # why it was over before all was settled

    @property
    def answer(self) -> Tried | None:
        """What to do: the fixes that help together, else the best one alone; None if none helps."""
        if self.together is not None and self.together.verdict == BETTER:
            return self.together
        helping = [tried for tried in self.tried if tried.verdict == BETTER and tried.saving_s is not None]
        return max(helping, key=lambda tried: tried.saving_s or 0.0, default=None)
