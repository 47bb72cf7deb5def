"""The verdict as JUnit XML, which GitLab, Jenkins, CircleCI, Buildkite and Azure all show: one test case per check.

A failed check is a failure. A check that could not be measured is skipped with its reason. A warning passes, and its text is
output: a test that fails on advice would soon be deleted.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from mfu_doctor.render.verdict.saves import saves
from mfu_doctor.render.words.text import clean, each_text
from mfu_doctor.result.verdict import NOT_MEASURED, PASSED, Check, Verdict

SUITE = "mfu-doctor"

# Characters that XML 1.0 cannot contain, even escaped (section 2.2).
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(verdict: Verdict) -> str:
    """One `<testsuite>` in a `<testsuites>`, with the XML declaration."""
    verdict = each_text(verdict, lambda text: _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", clean(text)))
    skipped = len(verdict.with_status(NOT_MEASURED))
    counts = {"tests": len(verdict.checks), "failures": len(verdict.failures), "errors": 0, "skipped": skipped}
    numbers_of = {name: str(count) for name, count in counts.items()}
    top = ET.Element("testsuites", {"name": SUITE, **numbers_of})
    suite = ET.SubElement(top, "testsuite", {"name": SUITE, **numbers_of})
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(verdict):
        ET.SubElement(properties, "property", {"name": name, "value": value})
    for check in verdict.checks:
        _case(suite, check, verdict)
    ET.indent(top)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(top, encoding="unicode") + "\n"


def _properties(verdict: Verdict) -> list[tuple[str, str]]:
    judged = verdict.judged
    found = [("outcome", verdict.headline), ("device", judged.device or ""), ("torch", judged.torch or "")]
    found += [("verdict", judged.sentence or "")]
    found += [("steps", str(judged.steps)), ("site", judged.site or "")]
    found += [("run", run) for run in judged.runs] + [("baseline", run) for run in judged.baseline]
    found += [("caution", text) for text in verdict.cautions]
    return [(name, value) for name, value in found if value]


def _case(suite: ET.Element, check: Check, verdict: Verdict) -> None:
    case = ET.SubElement(suite, "testcase", {"classname": SUITE, "name": check.name, "time": "0"})
    if verdict.fails(check):
        failure = ET.SubElement(case, "failure", {"type": check.kind, "message": check.summary})
        failure.text = _text(check)
    elif check.status == NOT_MEASURED:
        ET.SubElement(case, "skipped", {"message": check.summary})
    else:
        word = "" if check.status == PASSED else f"{check.status}: "
        ET.SubElement(case, "system-out").text = f"{word}{_text(check)}"


def _text(check: Check) -> str:
    lines = [check.summary, *([check.since] if check.since else [])]
    if check.saving is not None:
        lines.append(saves(check))
    lines += [f"at {place}" for place in check.places]
    return "\n".join([*lines, *(check.fix or "").splitlines()])
