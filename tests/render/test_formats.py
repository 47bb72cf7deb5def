"""Choosing a format: by name or by a file's ending, the same way for reports, verdicts and comparisons."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfu_doctor.errors import DoctorError
from mfu_doctor.render import FORMATS, format_for, render
from tests.goldens import loader_bound, worst


def test_a_suffix_picks_the_format() -> None:
    assert [format_for("report", path=name) for name in ("a.md", "b.JSON", "c.html", "d.htm", "e.txt")] == [
        "markdown",
        "json",
        "html",
        "html",
        "terminal",
    ]
    with pytest.raises(DoctorError, match="no output format"):
        format_for("report", path="train.py")


@pytest.mark.parametrize(
    ("takes", "name", "path", "chosen"),
    [
        ("verdict", None, "out.xml", "junit"),
        ("verdict", "github", "out.xml", "github"),
        ("comparison", None, Path("out.MD"), "markdown"),
        ("comparison", None, None, "terminal"),
        ("report", "notebook", None, "notebook"),
    ],
)
def test_a_name_wins_over_an_ending_for_every_kind_of_object(
    takes: str, name: str | None, path: str | Path | None, chosen: str
) -> None:
    assert format_for(takes, name, path) == chosen


@pytest.mark.parametrize(
    ("takes", "name", "path", "remedy"),
    [
        ("verdict", "junt", None, "did you mean junit?"),
        ("comparison", "html", None, "use one of terminal, markdown, json"),
        ("comparison", None, "out.html", "use one of the suffixes .txt, .md, .json, or pass --format"),
    ],
)
def test_a_format_of_another_kind_of_object_is_refused(
    takes: str, name: str | None, path: str | None, remedy: str
) -> None:
    with pytest.raises(DoctorError) as caught:
        format_for(takes, name, path)
    assert caught.value.remedy == remedy


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DoctorError, match="terminal, markdown, json"):
        render(loader_bound(), "pdf")


@pytest.mark.parametrize("entry", [f for f in FORMATS if f.takes == "report"], ids=lambda f: f.name)
def test_every_format_of_a_report_renders_the_worst_one(entry: object) -> None:
    name = entry.name  # type: ignore[attr-defined]
    assert render(worst(), name)
