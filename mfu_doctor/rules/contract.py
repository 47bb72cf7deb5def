"""What a rule is: one documented function of a `Run` that returns a Finding, a Skip, or None if there is no fault.

The decorator only attaches facts to the function; the catalogue lists the rules; the runner (diagnosis) calls them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal, TypeAlias

from msgspec import Struct

from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.result.findings import WORTH_SHARE as WORTH_SHARE  # noqa: PLC0414 - rules take it from here
from mfu_doctor.result.findings import Ends, Evidence
from mfu_doctor.rules.families import Family, family_of
from mfu_doctor.rules.needs import Need

Effort: TypeAlias = Literal["setting", "line", "refactor"]  # least first
Risk: TypeAlias = Literal["none", "rounding", "convergence"]  # least first
# How well a saving is known. `SURE` in `result.findings` says what each means to readers: measured is high, modelled medium, a
# hint low; ends that are far apart make it less (`Diagnosis.sure`).
Confidence: TypeAlias = Literal["measured", "modelled", "hint"]
Spoils: TypeAlias = Literal["advice", "figures"]
HEADINGS = (
    "What it measures",
    "Why it costs",
    "How the gain is predicted",
    "How to fix",
    "When it is wrong",
    "References",
)


class Finding(Struct, frozen=True, kw_only=True):
    """A fault in this run.

    Attributes:
        summary: one sentence, subject first, with the number of this run ("GPU waits for data 21 % of the step").
        fix: a line to paste, with the values for this run.
        change: what the fix would change in the timeline; None for cautions and for throughput-only advice.
        detail: one more sentence under the fix.
        evidence: numbers with units.
        place: the user's file:line, if known.
        symptom_of: names of rules that explain this finding if they also find something (root cause first).
        mostly_of: the rule that is about most of the time that the fix saves: if that finds something, its fix comes first.
        withhold: a reason, with its number, not to recommend the fix although the fault exists; shown as withheld.
        throughput_gain: relative gain in samples per second, for advice that changes the work of a step.
        outside_share: what the fix saves at least outside of the recorded steps, over the time in steps: it is ranked by this.
        at_most: the share of the step that it names as lost, where its fix can get nothing else back: no saving is larger.
        at_best: whether it takes all of a loss away although its fix leaves open how much goes: its saving is "up to".
        step_share: the share of the step that it is about: it ranks a finding among those without a predicted saving.
        effort: how much work the fix is; of two equal savings the one with less effort comes first.
        risk: what the fix may change apart from the time.
        trades: whether it is a choice and no fault: exactness of results for time. See `is_choice`.
        confidence: how well the saving is known; see `Confidence`.
        decides: what decides between the ends of the saving, for a rule whose ends can be far apart.
        spoils: of a rule about the trace: whether it makes all advice wrong, or figures (`result.caveats`).
        needless_flops: model FLOP of the mean step that the fix removes: MFU after it is of the rest.
        raised_peak: dense FLOP/s that matmuls can reach after the fix, if the fix raises it (a faster dtype, more threads of a
            CPU): the lower bound of the current kernels is then not a bound.
    """

    summary: str
    fix: str
    change: Change | None = None
    detail: str | None = None
    evidence: tuple[Evidence, ...] = ()
    effort: Effort = "line"
    risk: Risk = "none"
    trades: bool = False
    confidence: Confidence = "modelled"
    decides: Ends | None = None
    spoils: Spoils | None = None
    place: str | None = None
    symptom_of: tuple[str, ...] = ()
    mostly_of: str | None = None
    withhold: str | None = None
    throughput_gain: float | None = None
    outside_share: float | None = None
    at_best: bool = False
    at_most: float | None = None
    step_share: float | None = None
    needless_flops: float = 0.0
    raised_peak: float | None = None

    @property
    def is_choice(self) -> bool:
        """Whether it is no fault but a choice that trades exactness, or what is trained: its low end is what it is ranked by."""
        return self.trades or self.risk == "convergence"


class Skip(Struct, frozen=True):
    """The rule could not judge; `reason` says why and what would measure it."""

    reason: str


Outcome: TypeAlias = Finding | Skip | None


def shown(name: str, value: float | str, unit: str = "", place: str | None = None) -> Evidence:
    """One number (or name) that a finding rests on; `unit` as in `Evidence`."""
    return Evidence(name=name, value=value, unit=unit, place=place)


class Rule(Struct, frozen=True):
    """A rule as the catalogue lists it.

    Attributes:
        name: the file's name with dashes.
        code: the letters of its family and three digits.
        title: the fault in a few words.
        needs: what a run must have; otherwise the rule is "not measured".
        judge: the function that looks at a run.
        doc: the module's docstring with the fixed headings.
        also: other names that people use for the fault; `mfu-doctor explain` and `--select` accept them too.
    """

    name: str
    code: str
    title: str
    needs: tuple[Need, ...]
    judge: Callable[[Run], Outcome]
    doc: str
    also: tuple[str, ...] = ()

    @property
    def family(self) -> Family:
        """Where the time goes that this rule is about."""
        return family_of(self.code)

    @property
    def caution(self) -> bool:
        """Whether it judges the trace and not the training: no saving, shown under Cautions."""
        return self.family is Family.TRACE


def rule(
    name: str, code: str, title: str, *, needs: tuple[Need, ...] = (), also: tuple[str, ...] = ()
) -> Callable[[Callable[[Run], Outcome]], Rule]:
    """Make a function into a `Rule`; its module's docstring is its documentation.

    Args:
        name: the file's name with dashes; a noun or adjective for the fault, never the remedy.
        code: the two letters of its family (`families`) and three digits, never reused.
        title: the fault in a few words.
        needs: what a run must have (`needs`); without it the rule is "not measured" and is not called.
        also: other names that people use for the fault or its fix, in lower case with dashes.

    Raises:
        ValueError: the file is not where its name and code say.
        TypeError: one of `needs` is not a Need.
    """

    def wrap(judge: Callable[[Run], Outcome]) -> Rule:
        check_place(judge.__module__, name, code)
        for need in needs:
            if not isinstance(need, Need):
                raise TypeError(f"{name}: {need!r} is not a Need: use one of {', '.join(str(n) for n in Need)}")
        doc = sys.modules[judge.__module__].__doc__ or ""
        return Rule(name, code, title, needs, judge, doc, also)

    return wrap


def check_place(module: str, name: str, code: str) -> None:
    """A rule is found by its name, so its file and folder must agree with the decorator.

    Raises:
        ValueError: they do not.
    """
    wanted = f"mfu_doctor.rules.{family_of(code).folder}.{name.replace('-', '_')}"
    if module != wanted:
        raise ValueError(f"{name} ({code}) is in {module}, but must be in {wanted}")
