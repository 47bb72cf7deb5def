"""What a rule is: one documented function of a `Run` that returns a Finding, a Skip, or None when all is well.

The decorator only attaches facts to the function; the catalogue lists the rules; the runner (diagnosis) calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.result.report import Evidence

if TYPE_CHECKING:
    from mfu_doctor.analysis.run import Run

HEADINGS = (
    "What it measures",
    "Why it costs",
    "How the gain is predicted",
    "How to fix",
    "When it is wrong",
    "References",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fault in this run.

    Attributes:
        summary: one sentence, subject first, with this run's number ("GPU waits for data 21 % of the step").
        fix: a pasteable line with the values that this run calls for.
        change: what the fix would change in the timeline; None for cautions and for throughput-only advice.
        detail: one more sentence under the fix.
        evidence: numbers with units.
        place: the user's file:line, where known.
        symptom_of: names of rules that explain this finding when they fire too (root cause first).
        withhold: a reason with its number not to give this advice although the fault exists; shown as withheld.
        throughput_gain: relative gain in samples per second, for advice that changes the work of a step.
        raised_peak: dense FLOP/s that products can reach once fixed, where the fix raises it (a faster number format, more
            threads of a CPU): what today's kernels can reach at best is no bound then.
    """

    summary: str
    fix: str
    change: Change | None = None
    detail: str | None = None
    evidence: tuple[Evidence, ...] = ()
    effort: str = "line"  # setting, line, refactor
    risk: str = "none"  # none, rounding, convergence
    confidence: str = "modelled"  # measured, modelled, hint
    place: str | None = None
    symptom_of: tuple[str, ...] = ()
    withhold: str | None = None
    throughput_gain: float | None = None
    raised_peak: float | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """The rule could not judge; `reason` says why and what would measure it."""

    reason: str


Outcome: TypeAlias = Finding | Skip | None


def shown(name: str, value: float | str, unit: str = "", place: str | None = None) -> Evidence:
    """One number (or name) that a finding rests on; `unit` as in `Evidence`."""
    return Evidence(name=name, value=value, unit=unit, place=place)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as the catalogue lists it."""

    name: str
    code: str
    title: str  # the fault in a few words
    needs: tuple[str, ...]  # names of requirements (see diagnosis.requirements)
    judge: Callable[[Run], Outcome]
    doc: str  # the module docstring under the fixed headings
    caution: bool = field(default=False)


def rule(
    name: str, code: str, title: str, *, needs: tuple[str, ...] = (), caution: bool = False
) -> Callable[[Callable[[Run], Outcome]], Rule]:
    """Make a function into a `Rule`; its module's docstring is its documentation.

    Args:
        name: the file's name with dashes; a noun or adjective for the fault, never the remedy.
        code: two letters for where the time goes and three digits, never reused.
        title: the fault in a few words.
        needs: requirements without which the rule is "not measured".
        caution: a trace-health rule: no saving, printed under Caution.
    """

    def wrap(judge: Callable[[Run], Outcome]) -> Rule:
        import sys

        doc = sys.modules[judge.__module__].__doc__ or ""
        return Rule(name, code, title, needs, judge, doc, caution)

    return wrap
