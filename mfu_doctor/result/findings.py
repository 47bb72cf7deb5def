"""The findings: what each rule found, what its fix would save, and the order of the fixes."""

from __future__ import annotations

from dataclasses import dataclass

FAILED = "failed"
PASSED = "passed"
NOT_MEASURED = "not measured"
WITHHELD = "withheld"
CRASHED = "crashed"
STATUSES = (FAILED, PASSED, NOT_MEASURED, WITHHELD, CRASHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One number that a finding rests on."""

    name: str
    value: float | int | str
    unit: str = ""  # s, share, count, bytes, FLOP, ...
    place: str | None = None  # file:line or event name


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """Seconds per step that a fix would save, predicted by replay; and the step and MFU after it."""

    low: float
    mid: float
    high: float
    step_low_s: float | None = None  # predicted step at the low end of the saving
    step_high_s: float | None = None
    mfu_low: float | None = None
    mfu_high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
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
    confidence: str | None = None  # measured, modelled, hint
    saving: Saving | None = None
    throughput_gain: float | None = None  # for spare-memory: relative samples/s, not step time
    evidence: tuple[Evidence, ...] = ()
    place: str | None = None  # the user's file:line if known
    explains: tuple[str, ...] = ()  # rules folded under this one
    explained_by: str | None = None
    caution: bool = False  # TR rules: no saving, printed under Caution


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStep:
    """The step after this fix and all before it, re-replayed (savings are never summed)."""

    rule: str
    step_s: float
    saving_s: float  # against the step before this fix
    mfu: float | None = None
    pays_after: str | None = None  # the fix without which this one saves too little; None if it saves enough alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Fixes in greedy order and where it stops."""

    steps: tuple[PlanStep, ...] = ()
    saving_low_s: float = 0.0
    saving_high_s: float = 0.0
    mfu_low: float | None = None
    mfu_high: float | None = None
    roofline_s: float | None = None  # the step if every kernel ran at its roofline and nothing else cost time
    stop: str | None = None  # sentence: where the plan stops and why
    at_floor: bool = False  # the plan ends at the shortest step that is predicted at all; `stop` says which
    notes: tuple[str, ...] = ()  # fixes that could not be replayed after the others
