"""The findings: what each rule found, what its fix would save, and the order of the fixes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from mfu_doctor.quantities import significant
from mfu_doctor.quantities.parts import left_of, times_as_fast

FAILED = "failed"
PASSED = "passed"
NOT_MEASURED = "not measured"
WITHHELD = "withheld"
CRASHED = "crashed"
STATUSES = (FAILED, PASSED, NOT_MEASURED, WITHHELD, CRASHED)

# Ends of a saving further apart than this factor are told, with what decides between them; closer ones are one figure.
WIDE = 1.3
SAME_END = 1.05  # a best estimate this near to the high end is that end
# Ends further apart than this leave open whether a fix is worth its work: only trying it tells.
VERY_WIDE = 3.0
# A fix is worth reporting if its low estimate saves at least this share of the step. It cannot save more than its fault takes,
# so a rule finds nothing if the fault takes less. A rule that uses another share has another reason, and states it.
WORTH_SHARE = 0.01
NO_STEP = 0.05  # of the step: a step predicted to be shorter is an error of prediction as much as a step
WORTH_TELLING = 1.05  # a step that many times as fast is worth the words
MEASURED, MODELLED, GUESSED = "measured", "modelled", "guessed"
# How the amount of a saving is known, in every output. What the run loses now is measured in all three.
SURE = {
    MEASURED: "all of the measured loss goes",
    MODELLED: "what stays is calculated; a range if its ends are over 30 % apart",
    GUESSED: "how much of the measured loss goes is uncertain, try it",
}

# The same in a line that has room for all three. The 30 % are those of `WIDE`.
SURE_IN_SHORT = {MEASURED: "all of it goes", MODELLED: "what stays is calculated", GUESSED: "try it"}

ABOUT, UP_TO = "about", "up to"  # see `about`
AT_STAKE = "are at stake; what gets them back is not known yet"  # said of the saving of a fix that `asks`


def about(low: float, middle: float, high: float) -> str:
    """What stands before the best estimate of a range: "about", or "up to" if it is the high end; empty if it is not wide."""
    if high <= WIDE * low:
        return ""
    return UP_TO if high <= SAME_END * middle else ABOUT


def told_high(middle: float, high: float) -> float:
    """The high end of a range as it is told: a best estimate near it is that end, since "up to" bears no figure above it."""
    return middle if high <= SAME_END * middle else high


class Evidence(Struct, frozen=True, kw_only=True):
    """One number that a finding rests on."""

    name: str
    value: float | int | str
    unit: str = ""  # s, share, count, bytes, FLOP, ...
    place: str | None = None  # file:line or event name


class Saving(Struct, frozen=True, kw_only=True):
    """Seconds per step that a fix would save, predicted by replay; and the step and MFU after it."""

    low: float
    mid: float
    high: float
    step_low_s: float | None = None  # predicted step at the low end of the saving
    step_high_s: float | None = None
    mfu_low: float | None = None
    mfu_high: float | None = None
    at_best: bool = False  # it takes all of a loss away, and its fix leaves open how much goes: "cheaper, or elsewhere"

    @property
    def whole_s(self) -> float:
        """The step that it is a part of; 0 if that is not known."""
        return 0.0 if self.step_low_s is None else self.step_low_s + self.low

    @property
    def is_wide(self) -> bool:
        """Whether the best estimate (`mid`) alone would hide how far apart the ends are."""
        return bool(about(self.low, self.mid, self.high))

    @property
    def about(self) -> str:
        """What stands before the best estimate: "about" of a wide range, "up to" if it is the high end; else empty.

        Of what is saved at best a high end stands beside it: that is "about", too.
        """
        wide = about(self.low, self.mid, self.high)
        return wide or ((UP_TO if self.high <= SAME_END * self.mid else ABOUT) if self.at_best else "")

    @property
    def ends(self) -> tuple[float, float] | None:
        """The range that is told beside the best estimate; None if they are near each other."""
        if not self.about or (self.about == UP_TO and not self.is_wide):
            return None
        return self.low, told_high(self.mid, self.high)

    def times(self, step_s: float) -> float | None:
        """How many times as fast a step of so many seconds then is, by the figures that are told; None if that says nothing.

        That is so of less than a twentieth, of ends so far apart that only trying tells, and where hardly any step is left.
        """
        after = left_of(step_s, [self.mid])
        if self.high >= VERY_WIDE * self.low or after < NO_STEP * step_s or step_s < WORTH_TELLING * after:
            return None
        return times_as_fast(step_s, after) if after > 0 else None

    @property
    def expected(self) -> float:
        """What a finding is ranked by: the best estimate, or the mean of low, best and high where that is less.

        Where it is open which end holds, a best estimate at the high end is a hope: a sure 57 ms comes before "up to 67 ms"
        that may also be 6, and after 67 ms that may be 55.
        """
        return min(self.mid, (self.low + self.mid + self.high) / 3)


def asks(fix: str | None) -> bool:
    """Whether a fix is another report, which tells what to change and changes nothing itself."""
    return (fix or "").startswith("mfu-doctor report ")


class Advice(Protocol):
    """What a run's and a job's findings have in common: by this the first of them is introduced."""

    @property
    def rule(self) -> str:
        """Whose it is."""

    @property
    def summary(self) -> str:
        """One sentence."""

    @property
    def fix(self) -> str | None:
        """What to do."""

    @property
    def risk(self) -> str | None:
        """What it may change apart from the time."""

    @property
    def trades(self) -> bool:
        """Whether it is a choice and no fault."""

    @property
    def sure(self) -> str:
        """How the amount of its saving is known, one of `SURE`."""


def first_words(first: Advice, found: Iterable[Advice]) -> str:
    """How the first fix is introduced, by what it is and how its saving is known; a choice as one, whatever it saves.

    Args:
        first: the first of the findings.
        found: all of them: if none is a fault, that is said.
    """
    if not first.trades:
        return "Look first" if asks(first.fix) else "Try first" if first.sure == GUESSED else "Fix first"
    gives_up = "changes what is learned" if changes_learning(first) else "trades exactness"
    no_fault = all(one.trades for one in found)
    return f"No fault was found. A choice that {gives_up}" if no_fault else f"Most is saved by a choice that {gives_up}"


def changes_learning(advice: Advice) -> bool:
    """Whether it is a choice of what is learned, and not only of how exactly."""
    return advice.trades and advice.risk == "convergence"


def ranked_by(saving: Saving, *, trades: bool) -> float:
    """The seconds that a finding is ranked by: of a choice those that are sure, of a fault those that are expected."""
    return saving.low if trades else saving.expected


def not_added(rule: str) -> str:
    """Why a question is no step of a plan."""
    return f"{rule} is not added: find out first what gets its time back"


def how_known(confidence: str | None, saving: Saving | None) -> str:
    """How the amount of a saving is known, one of `SURE`, by how sure its rule is and how wide it is.

    A range that is told, or a bound, is never measured: something decides within it that this run does not show.
    """
    if confidence == "hint" or (saving is not None and saving.high >= VERY_WIDE * saving.low):
        return GUESSED
    return MEASURED if confidence == MEASURED and not (saving is not None and saving.about) else MODELLED


def result_words(saving: Saving | None, step_s: float, sure: str) -> str:
    """What a fix makes of the step and how that is known, as they stand in brackets: "1.4x, modelled"."""
    times = saving.times(step_s) if saving is not None else None
    if saving is None or times is None:
        return sure
    return f"{saving.about} {significant(times, 2)}x, {sure}".lstrip()


class Ends(Struct, frozen=True, kw_only=True):
    """What decides where in its range a saving lies: "67 ms if the step can be a CUDA graph; 5.7 ms if it only fuses"."""

    low: str  # after "if": what holds where the saving is at its low end
    high: str


class Diagnosis(Struct, frozen=True, kw_only=True):
    """What one rule said about this run."""

    rule: str
    code: str
    status: str  # one of STATUSES
    summary: str = ""  # one sentence
    reason: str | None = None  # not measured: why and which flag would; withheld: the number; crashed: the error
    fix: str | None = None  # pasteable
    detail: str | None = None  # one more sentence under the fix
    effort: str | None = None  # setting, line, refactor
    risk: str | None = None  # none, rounding, convergence
    trades: bool = False  # a choice, no fault: it gives up exactness of results, or changes what is learned, for time
    confidence: str | None = None  # measured, modelled, hint
    saving: Saving | None = None
    decides: Ends | None = None  # what decides between the ends of a wide saving
    throughput_gain: float | None = None  # for spare-memory: relative samples/s, not step time
    evidence: tuple[Evidence, ...] = ()
    place: str | None = None  # the user's file:line if known
    explains: tuple[str, ...] = ()  # rules folded under this one
    explained_by: str | None = None
    caution: bool = False  # TR rules: no saving; see `Report.caveats`
    spoils: str | None = None  # TR rules: what it makes wrong, as in `Caveat`

    @property
    def is_question(self) -> bool:
        """Whether its fix changes nothing, but is another report that tells what to change: its saving is what is at stake."""
        return asks(self.fix)

    @property
    def sure(self) -> str:
        """How the amount of the saving is known, one of `SURE`."""
        return how_known(self.confidence, self.saving)


class PlanStep(Struct, frozen=True, kw_only=True):
    """The step after this fix and all before it, re-replayed (savings are never summed)."""

    rule: str
    step_s: float
    saving_s: float  # against the step before this fix
    mfu: float | None = None
    pays_after: str | None = None  # the fix without which this one saves too little; None if it saves enough alone


class Overlap(Struct, frozen=True, kw_only=True):
    """A listed fix that is no step of the plan: what it saves alone is saved after the plan too."""

    rule: str
    covered_by: str | None = None  # the fix of the plan that saves the same time; None: only several together do


class Plan(Struct, frozen=True, kw_only=True):
    """The listed fixes in their order, then those that save time only after them; and where it stops."""

    steps: tuple[PlanStep, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    saving_low_s: float = 0.0
    saving_high_s: float = 0.0
    mfu_low: float | None = None
    mfu_high: float | None = None
    roofline_s: float | None = None  # the step if every current kernel ran at its roofline and nothing else cost time
    stop: str | None = None  # sentence: where the plan stops and why
    at_floor: bool = False  # the plan ends at the shortest step that is predicted at all; `stop` says which
    lower_mfu: str | None = None  # what MFU after the plan is of, if not of what it is today: it can be lower for that
    notes: tuple[str, ...] = ()  # the fixes left out: questions, and what could not be replayed

    @property
    def saving_s(self) -> float:
        """The best estimate of what all its fixes save together."""
        return sum(step.saving_s for step in self.steps)
