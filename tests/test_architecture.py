"""The shape of the code, checked on its syntax trees: imports point down, heavy imports have one home, files stay small.

A rule that only a reviewer remembers is broken within a month; each of these fails by name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from mfu_doctor.cli.check import FORMATS as CHECK_FORMATS
from mfu_doctor.cli.explain import sections
from mfu_doctor.render import FORMATS, names
from mfu_doctor.render.comparison import COMPARE_FORMATS
from mfu_doctor.rules.catalogue import RETIRED, RULES
from mfu_doctor.rules.contract import HEADINGS
from tests.traces import ROOT

PACKAGE = ROOT / "mfu_doctor"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# A module may import its own floor and those below. The longest matching name counts; every module has a floor.
FLOORS = {
    "autograd_names": 0,
    "errors": 0,
    "units": 0,
    "intervals": 0,
    "files": 1,
    "quantities": 1,
    "trace": 1,
    "facts": 1,
    "result": 2,
    "devices": 2,
    "flops": 3,
    "reading": 3,
    "capture": 3,
    "analysis": 4,
    "rules": 5,
    "diagnosis": 6,
    "comparison": 7,
    "gate": 8,
    "inputs": 9,
    "render": 9,
    "annotation": 10,
    "api": 10,
    "session": 11,
    "cli": 12,
    "__main__": 12,
    "__init__": 12,
}
# A function that must look up, imports there and only when called. Each stands here with its reason.
UPWARD: dict[tuple[str, str], str] = {}
# Heavy or foreign modules and the only files that may import them ("/" at the end: a folder).
HOMES = {
    "torch": ("capture/", "session/"),
    "pynvml": ("capture/device/nvml.py",),
    "typer": ("cli/main.py", "cli/options.py", "cli/help.py"),
    "rich": ("render/terminal/terminal.py",),
    "jinja2": ("render/html/html.py",),
    "pandas": (),
    "torch_tb_profiler": (),
    "tensorboard": (),
}
# What may catch everything, because what it guards must go on: rules, the training loop, device sampling. Each records it.
BROAD = ("diagnosis/rule_runner.py", "capture/device/nvml.py", "capture/boundary.py")
MAX_FILE, MAX_FUNCTION, MAX_NESTING, MAX_PARAMETERS, MAX_POSITIONAL = 300, 50, 3, 5, 2
# Files that may be longer, with the reason.
LONG = {"result/report.py": "the types of the result are one page, in the order in which a report is read"}
# Built from pieces, so that this file does not mention what it forbids.
FORBIDDEN = ("/work/" + "shared", "/." + "library/", "BRIEF" + ".md", "/work/" + "venv", "/work/" + "main")
VAGUE = re.compile(r"(utils?|helpers?|common|manager|misc)")


def inner(path: Path) -> str:
    """Path of a module inside the package."""
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def part(name: str) -> str:
    """First part of a module's path: its entry in FLOORS."""
    return name.partition("/")[0].removesuffix(".py")


def typing_only(module: ast.Module) -> set[ast.AST]:
    """Nodes under `if TYPE_CHECKING:`, which never run."""
    blocks = [n for n in ast.walk(module) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    return {node for block in blocks for statement in block.body for node in ast.walk(statement)}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Modules that a file imports at run time, and whether inside a function."""
    module = tree(path)
    skipped = typing_only(module)
    functions = [n for n in ast.walk(module) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lazy = {node for function in functions for node in ast.walk(function)}
    for node in ast.walk(module):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module, node in lazy
            yield from ((f"{node.module}.{alias.name}", node in lazy) for alias in node.names)


def test_every_part_of_the_package_has_a_floor() -> None:
    parts = {part(inner(path)) for path in SOURCES}
    assert parts <= set(FLOORS), f"give a floor to {sorted(parts - set(FLOORS))}"


@pytest.mark.parametrize("path", SOURCES, ids=inner)
def test_imports_point_down(path: Path) -> None:
    own = part(inner(path))
    for name, lazy in imports(path):
        words = name.split(".")
        if words[0] != "mfu_doctor" or len(words) < 2 or words[1] not in FLOORS:
            continue
        allowed = FLOORS[words[1]] <= FLOORS[own] or (lazy and (own, words[1]) in UPWARD)
        assert allowed, f"{inner(path)} (floor {FLOORS[own]}) imports {name} (floor {FLOORS[words[1]]})"


@pytest.mark.parametrize("path", SOURCES, ids=inner)
def test_heavy_imports_have_one_home(path: Path) -> None:
    for name, _ in imports(path):
        top = name.split(".")[0]
        if top in HOMES:
            homes = HOMES[top]
            assert inner(path) in homes or any(h.endswith("/") and inner(path).startswith(h) for h in homes), (
                f"{top} is imported"
            )


@pytest.mark.parametrize("path", SOURCES, ids=inner)
def test_files_and_functions_stay_small(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE or inner(path) in LONG, f"{lines} lines"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (
                (node.end_lineno or node.lineno) - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())
            )
            assert length <= MAX_FUNCTION, f"{node.name} has {length} lines"
            assert nesting(node.body) <= MAX_NESTING, f"{node.name} is nested {nesting(node.body)} deep"


def nesting(body: list[ast.stmt]) -> int:
    """Depth of decisions and loops as a reader counts them (cognitive complexity): `elif`, `with` and `try` add none."""
    deepest = 0
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        own = int(isinstance(node, ast.If | ast.For | ast.AsyncFor | ast.While | ast.Match))
        if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
            deepest = max(deepest, 1 + nesting(node.body), nesting(node.orelse))
            continue
        blocks = [(own, getattr(node, name, [])) for name in ("body", "orelse", "finalbody")]
        blocks += [(1, handler.body) for handler in getattr(node, "handlers", [])]
        blocks += [(own, case.body) for case in getattr(node, "cases", [])]
        deepest = max(deepest, *(depth + nesting(block) for depth, block in blocks if block), 0)
    return deepest


@pytest.mark.parametrize("path", SOURCES, ids=inner)
def test_functions_take_few_parameters(path: Path) -> None:
    """At most five; a public entry point whose options are keyword-only may have more, and so may a verb."""
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.decorator_list:
            continue
        positional = [a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
        assert len(positional) <= MAX_PARAMETERS, f"{node.name} takes {len(positional)} positional parameters"
        options = not node.name.startswith("_") and len(positional) <= MAX_POSITIONAL
        assert options or len(positional) + len(node.args.kwonlyargs) <= MAX_PARAMETERS, f"{node.name} takes too many"


@pytest.mark.parametrize("path", [p for p in SOURCES if inner(p) != "cli/main.py"], ids=inner)
def test_only_the_command_line_prints_or_exits(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "sys.exit", "exit", "quit", "os._exit", "sys.stdout.write"), (
                f"line {node.lineno}"
            )


@pytest.mark.parametrize("path", SOURCES, ids=inner)
def test_only_boundaries_catch_everything(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or bool(
                {"Exception", "BaseException"} & set(re.findall(r"\w+", ast.unparse(node.type)))
            )
            passes_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None  # only tidies up
            assert not broad or passes_on or inner(path) in BROAD, f"line {node.lineno} catches everything"


@pytest.mark.parametrize("path", SOURCES, ids=inner)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert (ast.get_docstring(tree(path)) or "").strip() or path.stat().st_size == 0
    assert not VAGUE.fullmatch(path.stem), "name a file for its idea"


def test_every_rule_file_is_in_the_catalogue() -> None:
    """A rule that is written but not listed never runs."""
    files = (PACKAGE / "rules").rglob("*.py")
    rule_files = {path.stem for path in files if re.search(r"^@rule\(", path.read_text(), re.MULTILINE)}
    assert rule_files == {rule.name.replace("-", "_") for rule in RULES}


def test_rules_are_named_once_and_sorted_into_families() -> None:
    codes = [rule.code for rule in RULES]
    assert len(set(codes)) == len(codes)
    assert not RETIRED & set(codes)
    assert len({rule.name for rule in RULES}) == len(RULES)
    families = list(dict.fromkeys(code[:2] for code in codes))
    assert [code[:2] for code in codes] == [family for family in families for code in codes if code[:2] == family]
    assert all(rule.caution == rule.code.startswith("TR") for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_documents_itself_under_the_fixed_headings(rule: object) -> None:
    parts = sections(rule.doc)  # type: ignore[attr-defined]
    assert parts.pop("").strip(), "the first sentence says what is wrong"
    assert list(parts) == list(HEADINGS)
    assert all(body.strip() for body in parts.values())


def test_every_renderer_is_in_the_catalogue() -> None:
    """A renderer that is written but not listed cannot be chosen, and one that is listed exists."""
    defining = {
        ".".join(path.relative_to(PACKAGE / "render").with_suffix("").parts)
        for path in (PACKAGE / "render").rglob("*.py")
        if any(isinstance(n, ast.FunctionDef) and n.name == f"render_{path.stem}" for n in tree(path).body)
    }
    assert defining == {entry.module for entry in FORMATS}
    assert set(names("verdict")) == set(CHECK_FORMATS)
    assert set(names("comparison")) == set(COMPARE_FORMATS)


def test_nothing_mentions_places_outside_the_project() -> None:
    kinds = {".py", ".md", ".toml", ".j2", ".css", ".csv", ".json", ".yml", ""}
    places = [ROOT / name for name in ("mfu_doctor", "tests", "examples", "benchmarks", ".ci")]
    files = [
        path for place in places for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    files += [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]  # a worktree has a file there
    for path in files:
        if path.suffix in kinds:
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not [word for word in FORBIDDEN if word in text], path
