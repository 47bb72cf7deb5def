"""How tests of rules judge a drawn timeline: the finding and its price by replay, or silence.

`tests/test_drawn_timelines.py` finds these calls in each rule's tests: a rule needs one that fires and one that is silent.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.replay.replay import Price
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import Facts
from mfu_doctor.result.findings import WIDE
from mfu_doctor.rules.contract import HEADINGS, Finding, Outcome, Rule
from mfu_doctor.units import NS_PER_US
from tests.timeline import Timeline

# Functions of this file that fail where the rule finds nothing, and those that fail where it finds something.
FIRING = ("found", "price_us", "caution")
SILENT = ("silent",)


def run_of(drawn: Timeline, **facts: Any) -> Run:
    """The run that a drawn timeline records, with facts of a live capture if any are given."""
    trace = drawn.trace()
    return Run(replace(trace, facts=Facts(**facts)) if facts else trace)


def found(rule: Rule, run: Run) -> Finding:
    """The rule's finding; fails the test where it has none, and where its documentation is not in order."""
    outcome = rule.judge(run)
    assert isinstance(outcome, Finding), f"{rule.name} found nothing in this run, it returned {_told(outcome)}"
    headings = [line for line in rule.doc.splitlines() if line in HEADINGS]
    assert headings == list(HEADINGS), (
        f"{rule.name}: its docstring needs each of these headings once: {', '.join(HEADINGS)}"
    )
    return outcome


def price_us(rule: Rule, run: Run) -> Price:
    """Savings per step of the rule's finding at its three ends, in microseconds."""
    finding = found(rule, run)
    change = finding.change
    assert change is not None, f"{rule.name}: its finding has no change that replay could price"
    price = run.replay.price(change)
    is_wide = price.high_ns > WIDE * price.low_ns
    assert not is_wide or finding.decides, f"{rule.name}: its ends are far apart: say in `decides` what decides"
    begins = finding.decides.high.split()[0] if finding.decides else ""
    assert begins not in ("it", "they", "its"), (
        f"{rule.name}: readers see the high end first: name there what it is about"
    )
    return Price(price.low_ns / NS_PER_US, price.mid_ns / NS_PER_US, price.high_ns / NS_PER_US)


def caution(rule: Rule, run: Run) -> str:
    """What a caution says; fails the test where it says nothing, or promises to save something."""
    finding = found(rule, run)
    assert finding.change is None, f"{rule.name}: a caution promises no saving, so its finding has no change"
    return finding.summary


def silent(rule: Rule, run: Run) -> None:
    """The rule looked at this run, and it is fine; fails the test where it found something, and where it could not judge."""
    outcome = rule.judge(run)
    assert outcome is None, f"{rule.name} must be silent (None) in this run, it returned {_told(outcome)}"


def _told(outcome: Outcome) -> str:
    """An outcome in short: a whole Finding holds arrays, and hides what it says."""
    if isinstance(outcome, Finding):
        return f"Finding: {outcome.summary}"
    return "None: it is fine" if outcome is None else f"Skip: {outcome.reason}"


def close(value: float) -> Any:
    """Equal to within 1 %, or 20 us where the value is small: launch costs that the closed forms leave out."""
    return pytest.approx(value, rel=0.01, abs=20)
