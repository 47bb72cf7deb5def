"""A rule that withholds its finding is heard: it is no failure and no part of the plan, and its reason is told."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.result.findings import FAILED, WITHHELD
from mfu_doctor.rules.contract import Finding, Rule
from tests.diagnosis.test_plan import drawn, halved

REASON = "the machine was too busy to tell"


def rule_that_finds(name: str, finding: Finding) -> Rule:
    return Rule(name, "KE099", name, (), lambda run: finding, "")


@pytest.mark.parametrize("priced", [True, False])
def test_what_its_rule_withholds_is_not_failed_however_much_it_would_save(priced: bool) -> None:
    run = drawn()
    change = halved(run) if priced else None
    withheld = Finding(summary="slow", fix="pass", change=change, withhold=REASON)
    told = Finding(summary="slow", fix="pass", change=change)
    report = diagnose_run(run, [rule_that_finds("doubted", withheld), rule_that_finds("sure", told)]).report
    doubted, sure = report.diagnosis("doubted"), report.diagnosis("sure")
    assert doubted is not None
    assert sure is not None
    assert (doubted.status, doubted.reason) == (WITHHELD, REASON)
    assert sure.status == FAILED
    assert "doubted" not in [step.rule for step in report.plan.steps]


@pytest.mark.parametrize(("factor", "expected"), [(0.5, FAILED), (0.999, WITHHELD)])
def test_a_symptom_is_listed_once(factor: float, expected: str) -> None:
    """Under its cause where it fails, else with its reason: it once stood in both places."""
    run = drawn()
    cause = Finding(summary="slow", fix="pass", change=halved(run))
    symptom = Finding(summary="late", fix="pass", change=halved(run, factor), symptom_of=("cause",))
    report = diagnose_run(run, [rule_that_finds("cause", cause), rule_that_finds("symptom", symptom)]).report
    [root] = report.failed
    listed = [*root.explains, *(found.rule for found in report.withheld)]
    told = report.diagnosis("symptom")
    assert told is not None
    assert told.status == expected
    assert listed == ["symptom"]
    assert (told.explained_by == root.rule) == ("symptom" in root.explains)


def test_what_is_too_little_only_at_its_low_end_is_not_only_so_much() -> None:
    """ "the predicted saving is only 0-58 ms per step" was said of a step of 234 ms."""
    run = drawn()
    least, most = halved(run, 0.999), halved(run)
    unsure = Finding(summary="slow", fix="pass", change=Change(least.low, most.mid, most.high))
    small = Finding(summary="slow", fix="pass", change=least)
    report = diagnose_run(run, [rule_that_finds("unsure", unsure), rule_that_finds("small", small)]).report
    said = {found.rule: found.reason or "" for found in report.withheld}
    assert said["unsure"].endswith("per step: at its low end too little")
    assert "only" not in said["unsure"]
    assert "the predicted saving is only" in said["small"]
    assert [found.rule for found in report.unsure] == ["unsure"]
