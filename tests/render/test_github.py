"""Annotations: failures only, at most ten, at the right line, and no text can issue a workflow command of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mfu_doctor.render.verdict.github import MOST, escape_data, escape_property, locate, render_github, repository_root
from tests.verdicts import golden_verdict, hostile_text, many_failures, passing_verdict, with_texts

ROOT = Path(__file__).resolve().parents[2]


def errors_in(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("::error ")]


def test_only_failures_are_annotated_each_at_its_line() -> None:
    lines = errors_in(render_github(golden_verdict(), root=ROOT))
    assert [re.search(r"title=mfu-doctor \(([\w-]+)\)", line)[1] for line in lines] == [  # type: ignore[index]
        "step-time",
        "syncs",
        "input-bound",
    ]
    assert "file=train.py,line=41::" in lines[0]  # where profile() was written
    assert "file=train.py,line=57::" in lines[1]  # the sync's own line
    assert lines[2].endswith("%0Amfu-doctor explain input-bound")
    assert "27.9 %25 of the step" in lines[2]


def test_a_pass_has_no_annotation() -> None:
    assert errors_in(render_github(passing_verdict(), root=ROOT)) == []


def test_inconclusive_is_annotated_only_when_strict() -> None:
    strict = replace(golden_verdict(), strict=True)
    assert len(errors_in(render_github(strict, root=ROOT))) == 4


@pytest.mark.parametrize("count", [9, 10, 11, 50])
def test_at_most_ten_and_the_rest_is_counted(count: int) -> None:
    lines = errors_in(render_github(many_failures(count), root=ROOT))
    assert len(lines) == min(count, MOST)
    if count > MOST:
        assert f"+{count - 9} more failures" in lines[-1]


def test_paths_are_relative_to_the_root_and_never_outside_it(tmp_path: Path) -> None:
    inside = tmp_path / "src" / "train.py"
    inside.parent.mkdir()
    inside.touch()
    assert locate(f"{inside}:41", tmp_path) == ("src/train.py", 41)
    assert locate("src/train.py:41", tmp_path) == ("src/train.py", 41)
    assert locate("/usr/lib/python3/x.py:1", tmp_path) is None
    assert locate("../x.py:1", tmp_path) is None
    assert locate("train.py", tmp_path) is None
    assert locate("train.py:x", tmp_path) is None
    assert locate(None, tmp_path) is None


def test_a_path_written_in_a_subfolder_is_found_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "train.py").touch()
    monkeypatch.chdir(tmp_path / "sub")
    assert locate("train.py:3", tmp_path) == ("sub/train.py", 3)


def test_the_repository_root_is_the_folder_with_git(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert repository_root(tmp_path / "a" / "b") == tmp_path


def test_escapes_are_the_runners_own() -> None:
    assert escape_data("50%\r\n:,") == "50%25%0D%0A:,"
    assert escape_property("a:b,c%\n") == "a%3Ab%2Cc%25%0A"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_hostile_text_cannot_issue_a_command(data: st.DataObject) -> None:
    verdict = with_texts(golden_verdict(), lambda: data.draw(hostile_text))
    text = render_github(verdict, root=ROOT)
    rows = re.split(r"\r\n|\r|\n", text.removesuffix("\n"))  # as the runner splits its log
    assert len(rows) == len(verdict.failures) + 1
    for row in rows[:-1]:
        assert re.match(r"::error title=mfu-doctor \([\w-]+\)(,file=[^:,\r\n]+,line=\d+)?::", row)
    assert not rows[-1].lstrip().startswith("::")
    assert "##[" not in text
