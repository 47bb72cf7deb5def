"""The markdown and JSON forms of a report: complete, small, and nothing in them that a trace could have injected."""

from __future__ import annotations

import json
import re

import pytest
from syrupy.assertion import SnapshotAssertion

from mfu_doctor.render import render
from tests.goldens import GOLDENS, loader_bound, worst

COMMENT_LIMIT = 64 * 1024  # bytes


@pytest.mark.parametrize("name", [name for name in GOLDENS if name != "worst"])
def test_what_each_golden_report_looks_like(name: str, snapshot: SnapshotAssertion) -> None:
    assert render(GOLDENS[name](), "markdown") == snapshot


def test_the_worst_report_fits_into_a_comment() -> None:
    assert len(render(worst(), "markdown").encode()) < COMMENT_LIMIT


def test_markup_from_a_trace_is_shown_and_not_obeyed() -> None:
    text = render(worst(), "markdown")
    outside_code = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text, flags=re.DOTALL)
    assert "<script>" not in outside_code
    assert not re.search(r"(?<!\\)\*b\*", outside_code)
    assert "\x1b" not in text
    assert not any(row.lstrip().startswith("::") for row in text.splitlines())


def test_the_order_is_the_terminals() -> None:
    text = render(loader_bound(), "markdown")
    marks = [
        "### mfu-doctor: MFU 31.4 %",
        "57 % computing",
        "Fix first",
        "**MFU 31.4 %**",
        "step time breakdown",
        "Passed 9",
        "Not measured 2",
        "Caution",
        "```",
    ]
    places = [text.index(mark) for mark in marks]
    assert places[:-1] == sorted(places[:-1])


def test_json_is_the_report() -> None:
    assert json.loads(render(loader_bound(), "json")) == json.loads(loader_bound().to_json())
