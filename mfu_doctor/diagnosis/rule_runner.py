"""Call the rules on a run and collect their outcomes. No saving is predicted here.

A rule that raises is shown as crashed, never as passed, and so is one whose change cannot be replayed. Only `attempt` catches
everything that a rule can raise, and it returns what it caught.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.evidence.library_versions import for_versions
from mfu_doctor.analysis.evidence.trainer_arguments import for_trainer
from mfu_doctor.analysis.run import Run
from mfu_doctor.result.caveats import ADVICE
from mfu_doctor.rules.contract import Finding, Outcome, Rule, Skip

T = TypeVar("T")

# Rules about the file itself: they are asked even if it has nothing of the GPU, and one of them then says so.
LOST_DEVICE = "missing-gpu-events"
_ABOUT_THE_FILE = (LOST_DEVICE, "dropped-events")


class Examined(Struct, frozen=True):
    """One rule's outcome; `error` is set if it crashed."""

    rule: Rule
    outcome: Outcome
    error: str | None = None


def examine(run: Run, rules: Iterable[Rule]) -> list[Examined]:
    """Ask each rule about the run, in the order given."""
    return [_ask(run, rule) for rule in rules]


def without_spoilt_advice(examined: list[Examined]) -> list[Examined]:
    """The outcomes, where advice on this recording would be wrong without any: such findings are not measured."""
    why = next(
        (e.outcome.summary for e in examined if isinstance(e.outcome, Finding) and e.outcome.spoils == ADVICE), None
    )
    if why is None:
        return examined
    reason = Skip(f"{why[:1].lower()}{why[1:]}")
    return [
        replace(e, outcome=reason) if isinstance(e.outcome, Finding) and not e.rule.caution else e for e in examined
    ]


def attempt(work: Callable[[], T]) -> tuple[T | None, str | None]:
    """What the work returned and None, or None and what it raised: a broken rule must not take the report down."""
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001  # recorded by the caller, who shows the rule as crashed
        return None, f"{type(error).__name__}: {error}"


def _ask(run: Run, rule: Rule) -> Examined:
    outcome, error = attempt(lambda: _judge(run, rule))
    return Examined(rule, outcome, error)


def _judge(run: Run, rule: Rule) -> Outcome:
    if run.lost_device is not None and rule.name not in _ABOUT_THE_FILE:
        return Skip(run.lost_device.reason)
    for need in rule.needs:
        reason = need.lacks(run)
        if reason is not None:
            return Skip(reason)
    outcome = rule.judge(run)
    if not isinstance(outcome, Finding):
        return outcome
    return replace(outcome, fix=for_trainer(run, for_versions(run, outcome.fix)))


def findings(examined: Iterable[Examined]) -> list[tuple[Rule, Finding]]:
    """The findings among the outcomes, cautions left out."""
    return [(e.rule, e.outcome) for e in examined if isinstance(e.outcome, Finding) and not e.rule.caution]
