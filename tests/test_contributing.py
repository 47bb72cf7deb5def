"""CONTRIBUTING's walk-through of a new rule works as printed, and the files that it names exist."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mfu_doctor.analysis.evidence import steady_steps
from mfu_doctor.analysis.replay import edits
from mfu_doctor.analysis.run import Run
from mfu_doctor.api.diagnose import diagnose
from mfu_doctor.rules import contract
from mfu_doctor.rules.contract import HEADINGS, Rule, Skip
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds
from tests.problems import expect_none
from tests.rules import judging
from tests.rules.drawing import compute, steps
from tests.timeline import Timeline
from tests.traces import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTION = TEXT[TEXT.index("## Add a rule") : TEXT.index("## Add a device")]
MODULE = "mfu_doctor.rules.input.my_fault"


def code() -> str:
    """The blocks of Python of the section, in order."""
    return "\n".join(textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL))


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the section defines, as if it stood in the rule's own module."""
    module = ModuleType(MODULE, "\n".join(["What is wrong.", *HEADINGS]))
    monkeypatch.setitem(sys.modules, MODULE, module)
    for source in (contract, steady_steps, edits, judging):
        vars(module).update({name: value for name, value in vars(source).items() if not name.startswith("_")})
    vars(module).update(Run=Run, Need=Need, Timeline=Timeline, seconds=seconds)
    exec(compile(code(), "CONTRIBUTING.md", "exec"), vars(module))
    return vars(module)


def test_the_tests_that_it_shows_hold_for_the_rule_that_it_shows(example: dict[str, Any]) -> None:
    tests: list[Callable[[], None]] = [value for name, value in example.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_the_rule_that_it_shows_skips_what_it_cannot_judge(example: dict[str, Any]) -> None:
    rule: Rule = example["my_fault"]
    assert isinstance(rule.judge(judging.run_of(steps(lambda drawn: compute(drawn, 500)))), Skip)


def test_the_timeline_that_it_shows_is_a_trace_when_written(example: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "drawn.json"
    path.write_text(json.dumps(example["slow_loader"](300).json()), encoding="utf-8")
    assert "input-bound" in [found.rule for found in diagnose(path).failed]


def test_every_file_that_it_names_exists() -> None:
    """Names are relative to the repository, to the package, or to the rules."""
    named = set(re.findall(r"(?<![\w/.<>-])(?:[\w.]+/)+[\w.]+\.(?:py|md|csv|txt)\b", TEXT))
    assert len(named) > 10
    places = (ROOT, ROOT / "mfu_doctor", ROOT / "mfu_doctor" / "rules")
    expect_none(
        f"CONTRIBUTING.md names {name}, which does not exist"
        for name in sorted(named)
        if "my_fault" not in name and not any((place / name).exists() for place in places)
    )
