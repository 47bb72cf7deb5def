"""Run the rules on a run: who could judge, who found something, who crashed. Nothing is priced here.

A rule that raises is shown as crashed, never as passed, and so is one whose change cannot be replayed: `attempt` is the only
place that catches everything a rule can cause, and it returns what it caught.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.contract import Finding, Outcome, Rule, Skip

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Examined:
    """One rule's outcome; `error` is set where it crashed."""

    rule: Rule
    outcome: Outcome
    error: str | None = None


def _has_shapes(run: Run) -> bool:
    return any(a.dims is not None for a in run.trace.args)


def _has_stacks(run: Run) -> bool:
    return bool(run.recorded.recorded.stacks) or run.facts is not None


def _has_samples(run: Run) -> bool:
    return run.facts is not None and any(s.time_ns for s in run.facts.samples)


def _no_samples(run: Run) -> str:
    """Why the sampler of a live run had nothing to say, where it told."""
    told = (run.facts.sampler_status or "").partition(": ")[2] if run.facts is not None else ""
    return f"no device samples: {told or 'record with mfu_doctor.profile() where an NVIDIA driver answers'}"


# What a rule may need, how to tell that a run has it, and what to say when it has not.
REQUIREMENTS: dict[str, tuple[Callable[[Run], bool], Callable[[Run], str]]] = {
    "device": (
        lambda run: not run.is_cpu,
        lambda _: "the trace has no device work: record where the training runs on a GPU",
    ),
    "shapes": (_has_shapes, lambda _: "shapes were not recorded: record with record_shapes=True"),
    "stacks": (_has_stacks, lambda _: "stacks were not recorded: record with with_stack=True"),
    "facts": (
        lambda run: run.facts is not None,
        lambda _: "only a live run knows this: record with mfu_doctor.profile()",
    ),
    "samples": (_has_samples, _no_samples),
    "peak": (lambda run: bool(run.peaks.dense), lambda _: "the device's peak is unknown: pass --peak-flops"),
}


def examine(run: Run, rules: Iterable[Rule]) -> list[Examined]:
    """Ask each rule about the run, in the order given."""
    return [_ask(run, rule) for rule in rules]


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
    for need in rule.needs:
        met, reason = REQUIREMENTS[need]
        if not met(run):
            return Skip(reason(run))
    return rule.judge(run)


def findings(examined: Iterable[Examined]) -> list[tuple[Rule, Finding]]:
    """The findings among the outcomes, cautions left out."""
    return [(e.rule, e.outcome) for e in examined if isinstance(e.outcome, Finding) and not e.rule.caution]
