"""What every rule keeps to: one file that says everything about it, in the folder of its family, under names that are its own.

A rule that breaks one of these fails here by name, most of them already when its file is imported.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from msgspec.structs import replace

from mfu_doctor import quantities
from mfu_doctor.analysis import evidence
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import Activity
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.errors import DoctorError
from mfu_doctor.rules.catalogue import EVERY_RULE, RULES, AnyRule, choose, find
from mfu_doctor.rules.contract import WORTH_SHARE, Outcome, rule
from mfu_doctor.rules.families import Family, family_named
from mfu_doctor.rules.needs import Need
from mfu_doctor.trace import Category, Trace
from tests.evidence_page import PAGE, page
from tests.problems import expect_none
from tests.rules.drawing import steps
from tests.rules.judging import run_of

SPELLING = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def test_the_catalogue_is_the_lists_of_the_families_in_their_order() -> None:
    lists = {family: importlib.import_module(f"mfu_doctor.rules.{family.folder}").RULES for family in Family}
    expect_none(
        f"{r.name} ({r.code}) is in RULES of rules/{family.folder}/__init__.py: list it in rules/{r.family.folder}/__init__.py"
        for family, listed in lists.items()
        for r in listed
        if r.family is not family
    )
    assert [r for listed in lists.values() for r in listed] == list(EVERY_RULE), (
        "rules/catalogue.py: EVERY_RULE is the families' lists"
    )


def test_codes_are_letters_of_a_family_and_three_digits() -> None:
    expect_none(
        f"{r.name}: its code is {r.code!r}: make it {r.family.letters} and three digits"
        for r in EVERY_RULE
        if not re.fullmatch(rf"{r.family.letters}\d{{3}}", r.code)
    )


def wrong_names(rules: Sequence[AnyRule]) -> list[str]:
    """What is wrong with the names that people may use for these rules: each must lead to one rule only."""
    owners: dict[str, list[str]] = {}
    for r in rules:
        for name in (r.name, *r.also):
            owners.setdefault(name, []).append(r.name)
    return [
        *(
            f"{name!r} is a name of {' and of '.join(of)}: keep it in one of them (name or also)"
            for name, of in owners.items()
            if len(of) > 1
        ),
        *(
            f"{of[0]}: {name!r} must be lower case with dashes"
            for name, of in owners.items()
            if not SPELLING.fullmatch(name)
        ),
        *(
            f"{of[0]}: {name!r} is a family, and chooses all of its rules: use another word"
            for name, of in owners.items()
            if family_named(name) is not None
        ),
    ]


def test_no_two_rules_share_a_name() -> None:
    """A user who types any of the names gets the one rule that has it."""
    expect_none(wrong_names(EVERY_RULE))
    assert all(find(name.replace("-", "_").upper()) is r for r in EVERY_RULE for name in (r.name, r.code, *r.also))


def test_names_that_clash_are_all_told() -> None:
    first, second = RULES[0], RULES[1]
    wrong = [replace(first, also=("input", "Slow Loader")), replace(second, also=(first.name,))]
    assert [problem.partition(":")[0] for problem in wrong_names(wrong)] == [
        f"'{first.name}' is a name of {first.name} and of {second.name}",
        first.name,
        first.name,
    ]


@pytest.mark.parametrize("word", ["IN", "in", "input", "Input"])
def test_a_family_is_chosen_by_letters_or_name(word: str) -> None:
    assert {r.family for r in choose(RULES, select=(word,))} == {Family.INPUT}


def test_rules_are_chosen_by_what_people_call_them() -> None:
    assert [r.name for r in choose(RULES, select=("no_sync", "DV001"))] == ["sync-every-microbatch", "thermal-throttle"]
    with pytest.raises(DoctorError, match="there is no rule 'num-worker'") as wrong:
        choose(RULES, select=("num-worker",))
    assert "num-workers" in wrong.value.remedy


@pytest.mark.parametrize(
    ("removed", "now"),
    [("cold-cache", "input-bound"), ("cpu-contention", "busy-machine"), ("outlier-steps", "long-steps")],
)
def test_the_name_of_a_removed_rule_finds_the_one_that_took_its_place(removed: str, now: str) -> None:
    """Settings like `cold-cache = "off"` outlive the rule."""
    assert find(removed).name == now


def judge_nothing(module: str) -> Callable[[Run], Outcome]:
    """A function as if it stood in this module."""

    def judge(run: Run) -> Outcome:
        return None

    judge.__module__ = module
    return judge


INPUT_BOUND = "mfu_doctor.rules.input.input_bound"


@pytest.mark.parametrize(
    ("name", "code", "wrong"),
    [
        ("bound-by-input", "IN001", "must be in mfu_doctor.rules.input.bound_by_input"),
        ("input-bound", "HO001", "must be in mfu_doctor.rules.host.input_bound"),
        ("input-bound", "XX001", "invalid code 'XX001'"),
    ],
)
def test_a_rule_whose_file_says_something_else_cannot_be_imported(name: str, code: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        rule(name, code, "the device waits")(judge_nothing(INPUT_BOUND))


def test_a_need_that_is_none_fails_when_types_are_checked_and_when_imported() -> None:
    """The ignored type error is the first half: mypy --strict says so where there is none to ignore."""
    made = rule("input-bound", "IN001", "the device waits", needs=("device",))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="'device' is not a Need"):
        made(judge_nothing(INPUT_BOUND))


def test_what_a_run_lacks_is_said_with_what_would_measure_it() -> None:
    """A run of Python alone, without device, shapes, facts or a peak, lacks everything that can be needed."""
    run = run_of(steps(lambda drawn: drawn.python(100), device=False))
    reasons = [need.lacks(run) for need in Need]
    assert len({reason for reason in reasons if reason}) == len(Need)


def test_every_need_is_needed() -> None:
    assert {need for r in RULES for need in r.needs} == set(Need)


def test_the_page_of_evidence_is_what_the_code_says() -> None:
    is_current = PAGE.read_text(encoding="utf-8") == page()
    assert is_current, "rules/EVIDENCE.md is out of date: run python -m tests.evidence_page"


def test_all_that_a_rule_may_look_at_is_on_the_page() -> None:
    """Asked of the imported modules, and so independent of how the page is made."""
    text = PAGE.read_text(encoding="utf-8")
    public = [f"`run.{name}" for name in vars(Run) if not name.startswith("_")]
    for owner in (Trace, Activity, Intervals):
        methods = [n for n, v in vars(owner).items() if inspect.isfunction(v) or isinstance(v, property)]
        public += [f"`.{name}" for name in methods if not name.startswith("_")]
    public += [f"`.{member.name}`" for member in Category]
    helpers = [
        importlib.import_module(f"{evidence.__name__}.{m.name}") for m in pkgutil.iter_modules(evidence.__path__)
    ]
    for module in (quantities, *helpers):
        public += [
            f"`{name}("
            for name, value in inspect.getmembers(module, lambda m: inspect.isfunction(m) or inspect.isclass(m))
            if value.__module__ == module.__name__ and not name.startswith("_")
        ]
    assert len(public) > len(vars(Run))
    expect_none(
        f"{name} is not in rules/EVIDENCE.md: mend tests/evidence_page.py" for name in public if name not in text
    )


def unexplained_shares(source: str) -> list[str]:
    """Shares that a rule defines for itself without a comment that says why, on the line or above it."""
    lines = source.splitlines()
    return [
        line
        for before, line in pairwise(["", *lines])
        if re.match(r"_?[A-Z_]*SHARE = ", line) and "#" not in line and not before.startswith("#")
    ]


def test_a_rule_asks_for_the_smallest_share_that_is_worth_it_or_says_why_for_another() -> None:
    """A share of the step below which there is nothing to say is WORTH_SHARE; every other one has its reason beside it."""
    sources = {path: path.read_text(encoding="utf-8") for path in PAGE.parent.glob("*/*.py")}
    expect_none(
        f"{path.name}: say in a comment why {line.strip()!r} is not WORTH_SHARE"
        for path, source in sources.items()
        for line in unexplained_shares(source)
    )
    expect_none(
        f"{path.name} repeats the value of WORTH_SHARE: import it"
        for path, source in sources.items()
        if re.search(rf"SHARE = {WORTH_SHARE}\b", source)
    )
    assert unexplained_shares("import re\nSEEN_SHARE = 0.02\n") == ["SEEN_SHARE = 0.02"]
    assert unexplained_shares("# Memory above this is full.\nFULL_SHARE = 0.7\n") == []
