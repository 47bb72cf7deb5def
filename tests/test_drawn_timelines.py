"""Every rule has a drawn timeline where it fires and one where it stays silent, in `tests/rules/<family>/test_<name>.py`.

The check reads the tests' syntax trees: it looks in test functions for calls of `found(rule, run)` and `silent(rule, run)`
(`tests.rules.judging`), which fail the test themselves where the rule says something else. So a rule whose last such test is
deleted, renamed away or skipped turns this red, and a test that is there but wrong turns itself red.
"""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from mfu_doctor.rules.catalogue import EVERY_RULE, RULES, AnyRule
from tests.problems import expect_none
from tests.rules.judging import FIRING, SILENT
from tests.traces import ROOT

FOLDER = ROOT / "tests" / "rules"


def test_every_rule_has_a_timeline_where_it_fires_and_one_where_it_is_silent() -> None:
    expect_none(problem for rule in EVERY_RULE for problem in problems(rule, FOLDER))


def test_every_test_of_a_rule_lies_where_the_rule_does() -> None:
    """A test file in a family's folder is named for a rule of that family, or for the whole of it."""
    known = {path_of(rule, FOLDER) for rule in EVERY_RULE} | {FOLDER / "trace" / "test_cautions.py"}
    expect_none(
        f"{path.relative_to(ROOT)}: {path.parent.name} has no rule of that name: move or rename the file"
        for path in sorted(set(FOLDER.glob("*/test_*.py")) - known)
    )


def path_of(rule: AnyRule, folder: Path) -> Path:
    """Where the tests of a rule are."""
    return folder / rule.family.folder / f"test_{rule.name.replace('-', '_')}.py"


def problems(rule: AnyRule, folder: Path) -> list[str]:
    """What this rule's tests lack."""
    path = path_of(rule, folder)
    if not path.is_file():
        return [f"{rule.name}: there is no {path.relative_to(folder.parent.parent)}: draw it firing and silent there"]
    module = ast.parse(path.read_text(encoding="utf-8"))
    name = rule.name.replace("-", "_")
    lacking = [
        f"{rule.name}: no test {what}: {path.name} must call {' or '.join(f'{helper}({name}, run)' for helper in helpers)}"
        for helpers, what in ((FIRING, "where it fires"), (SILENT, "where it is silent"))
        if not any(calls(test, helpers, name) for test in running_tests(module))
    ]
    imported = {
        (node.module, alias.name) for node in module.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    own = (f"mfu_doctor.rules.{rule.family.folder}.{name}", name)
    wanted = f"from {own[0]} import {name}"
    return lacking + ([] if own in imported else [f"{rule.name}: {path.name} judges another {name}: it needs {wanted}"])


def running_tests(module: ast.Module) -> list[ast.FunctionDef]:
    """The test functions of a module that no decorator skips."""
    tests = [n for n in module.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
    return [t for t in tests if not any(word in ast.unparse(d) for d in t.decorator_list for word in ("skip", "xfail"))]


def calls(test: ast.FunctionDef, helpers: tuple[str, ...], rule: str) -> bool:
    """Whether a test calls one of the helpers with this rule first."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in helpers
        and bool(node.args)
        and isinstance(node.args[0], ast.Name)
        and node.args[0].id == rule
        for node in ast.walk(test)
    )


SMALL = next(rule for rule in RULES if rule.name == "small-matmul")


def without(path: Path, helpers: tuple[str, ...]) -> None:
    """Delete the tests of a file that call one of these helpers."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    tests = [n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef) and calls(n, helpers, "small_matmul")]
    assert tests
    for node in reversed(tests):
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        del lines[first - 1 : node.end_lineno]
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the tests of small-matmul, in a folder of its own."""
    folder = tmp_path / "tests" / "rules"
    path = path_of(SMALL, folder)
    path.parent.mkdir(parents=True)
    shutil.copy(path_of(SMALL, FOLDER), path)
    return folder


@pytest.mark.parametrize(("helpers", "lost"), [(FIRING, "where it fires"), (SILENT, "where it is silent")])
def test_deleting_the_test_that_fires_or_the_silent_one_is_noticed(
    copied: Path, helpers: tuple[str, ...], lost: str
) -> None:
    assert problems(SMALL, copied) == []
    without(path_of(SMALL, copied), helpers)
    assert [lost in problem for problem in problems(SMALL, copied)] == [True]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def test_", "def untested_"),
        ("\ndef test_", "\n@pytest.mark.skip\ndef test_"),
        ("(small_matmul, ", "(other_rule, "),
        ("mfu_doctor.rules.kernels.small_matmul", "mfu_doctor.rules.kernels.tf32_off"),
    ],
)
def test_tests_that_do_not_run_or_judge_another_rule_do_not_count(copied: Path, old: str, new: str) -> None:
    path = path_of(SMALL, copied)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    assert problems(SMALL, copied) != []


def test_a_rule_without_a_file_of_tests_is_noticed(copied: Path) -> None:
    path_of(SMALL, copied).unlink()
    assert problems(SMALL, copied) == [
        "small-matmul: there is no tests/rules/kernels/test_small_matmul.py: draw it firing and silent there"
    ]
