"""JUnit XML is valid against the format's schema, counts what it lists, and holds hostile text as text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from msgspec.structs import replace

from mfu_doctor.render.verdict.junit import render_junit
from mfu_doctor.result.verdict import Verdict
from tests.verdicts import golden_verdict, hostile_text, many_failures, passing_verdict, with_texts

SCHEMA = etree.XMLSchema(etree.parse(str(Path(__file__).parents[1] / "fixtures" / "junit.xsd")))


def valid(text: str) -> etree._Element:
    root = etree.fromstring(text.encode())
    SCHEMA.assertValid(root)
    return root


@pytest.mark.parametrize(
    "verdict",
    [golden_verdict(), passing_verdict(), many_failures(50), replace(passing_verdict(), checks=())],
    ids=["golden", "passing", "many", "nothing"],
)
def test_the_xml_follows_the_schema_and_counts_what_it_lists(verdict: Verdict) -> None:
    suite = valid(render_junit(verdict))[0]
    cases = suite.findall("testcase")
    assert suite.get("tests") == str(len(cases)) == str(len(verdict.checks))
    assert suite.get("failures") == str(len(suite.findall("testcase/failure"))) == str(len(verdict.failures))
    assert suite.get("skipped") == str(len(suite.findall("testcase/skipped")))


def test_each_status_has_its_element() -> None:
    suite = valid(render_junit(golden_verdict()))[0]
    case = {str(c.get("name")): c for c in suite.findall("testcase")}
    failure = case["input-bound"].find("failure")
    assert failure is not None
    assert "27.9 %" in str(failure.get("message"))
    assert "DataLoader(num_workers=12" in str(failure.text)
    skipped = case["straggler"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "one rank"
    assert str(case["host-bound"].findtext("system-out")).startswith("warning: ")
    assert str(case["mfu"].findtext("system-out")).startswith("inconclusive: ")
    assert {str(c.get("classname")) for c in case.values()} == {"mfu-doctor"}


def test_strict_makes_an_inconclusive_check_a_failure() -> None:
    suite = valid(render_junit(replace(golden_verdict(), strict=True)))[0]
    assert suite.find("testcase[@name='mfu']/failure") is not None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_hostile_text_stays_text(data: st.DataObject) -> None:
    verdict = with_texts(golden_verdict(), lambda: data.draw(hostile_text))
    suite = valid(render_junit(verdict))[0]
    assert [c.get("name") for c in suite.findall("testcase")] == [check.name for check in verdict.checks]
