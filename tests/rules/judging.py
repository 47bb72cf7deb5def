"""How tests of rules judge a drawn timeline: the finding and its price by replay, or silence.

`tests/test_drawn_timelines.py` finds these calls in each rule's tests: a rule needs one that fires and one that is silent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mfu_doctor.analysis.replay.replay import Price
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import Facts
from mfu_doctor.rules.contract import HEADINGS, Finding, Rule
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
    assert isinstance(outcome, Finding), outcome
    lines = rule.doc.splitlines()
    assert [line for line in lines if line in HEADINGS] == list(HEADINGS)
    return outcome


def price_us(rule: Rule, run: Run) -> Price:
    """Savings per step of the rule's finding at its three ends, in microseconds."""
    change = found(rule, run).change
    assert change is not None
    price = run.replay.price(change)
    return Price(price.low_ns / NS_PER_US, price.mid_ns / NS_PER_US, price.high_ns / NS_PER_US)


def caution(rule: Rule, run: Run) -> str:
    """What a caution says; fails the test where it says nothing, or promises to save something."""
    finding = found(rule, run)
    assert finding.change is None
    return finding.summary


def silent(rule: Rule, run: Run) -> None:
    """The rule looked at this run, and it is fine; fails the test where it found something, and where it could not judge."""
    assert rule.judge(run) is None


def close(value: float) -> Any:
    """Equal to within 1 %, or 20 us where the value is small: launch costs that the closed forms leave out."""
    return pytest.approx(value, rel=0.01, abs=20)
