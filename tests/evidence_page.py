"""Writes `mfu_doctor/rules/EVIDENCE.md`: what a rule may look at, one line each, from the code's own docstrings.

Run `python -m tests.evidence_page` after you add or rename evidence; a test compares the page with the code.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from mfu_doctor.rules.needs import Need
from tests.traces import ROOT

PACKAGE = ROOT / "mfu_doctor"
PAGE = PACKAGE / "rules" / "EVIDENCE.md"
INTRODUCTION = """\
# What a rule may look at

A rule gets a `Run` and returns a `Finding`, a `Skip` or `None` (`contract.py`). Everything that it may look at is on this page:
the views of the run and what their values can do, the evidence that rules share, the names in a trace, what a rule may need, the
edits that say what a fix would change, and how numbers are written.

This page is written from the code: `python -m tests.evidence_page`. A test fails where it is out of date.

Words that all of it uses:

- A **row** is an index into `run.trace.events`: an operator, an annotation, a runtime call, a kernel, a Python frame.
- A **category** is the kind of a row. `run.trace.frames(ids_matching(run.trace, pattern))` finds Python frames by
  name ("train.py(41): forward"). A trace has them only if stacks were recorded.
- An **entry** is an index into `run.activity`, the device's work: kernels and copies. On a CPU-only trace it is a stretch of an
  operator's own time, so one row can have several entries. Its `run.activity.kind` is `COMPUTE`, `COMMUNICATION` or `COPY`.
- A **mask** is a boolean array over all entries.
- **Intervals** are disjoint sets of time, with `|`, `&` and `-`. Times are integer nanoseconds.
- **Steady steps** are the judged ones. Tell findings per step (`steady.per_step`), and as a share of it (`steady.share`).
- **`WORTH_SHARE`** (`contract.py`) is the smallest share of the step that is worth a finding.

Most rules begin with `steady_of(run)`, find the work that is too much (`work_of`, `calls_of`, `run.kernels.is_kind`), ask what it
takes (`device_ns`, `part_of`), and say what would be left of it (`scaled`, `removed`, or an edit of their own):

```python
steady = steady_of(run)
mask = work_of(run, re.compile(r"^aten::native_dropout$"))
spent = device_ns(run, steady, mask)
if spent < WORTH_SHARE * steady.step_ns:
    return None
change = Change(*(scaled(run, mask, left) for left in (0.9, 0.5, 0.0)))  # low, mid and high end of the gain
```

`steady.step_ns` is the mean step, which the report states. To remove host time in which operators run, use `without_host`: in a
CPU-only run their own time is device work, and stays.
"""
# What rules read most, with its methods: the file, and its classes that are meant.
VALUES = (
    ("trace.py", ("Category", "Trace")),
    ("analysis/views/activity.py", ("Activity",)),
    ("arrays/intervals.py", ("Intervals",)),
)


def page() -> str:
    """The page as the code stands."""
    parts = [INTRODUCTION, "## The run", "", *_run(), "", "## What its values can do"]
    for place, names in VALUES:
        parts += _values(place, names)
    parts += ["", "## Evidence"]
    parts += _folder("analysis/evidence", with_methods=True)
    parts += ["", "## Names in a trace"]
    parts += _folder("analysis/names", with_methods=False)
    parts += ["", "## What a rule may need", "", *(f"- `Need.{need.name}`: {need.means}." for need in Need)]
    parts += ["", "## Edits: what a fix would change", *_module("analysis/replay/edits.py", with_methods=False)]
    parts += ["", "## How numbers are written", *_module("quantities/__init__.py", with_methods=False)]
    return "\n".join(parts) + "\n"


def _run() -> Iterator[str]:
    """A line for each public attribute of `Run`, and below it what its value has."""
    classes = {
        node.name: node
        for path in PACKAGE.rglob("*.py")
        for node in _tree(path).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }
    for method in _functions(classes["Run"]):
        yield f"- `run.{_called(method)}`: {_sentence(method)}"
        value = ast.unparse(method.returns).removesuffix(" | None") if method.returns else ""
        if value in classes:
            attributes = [*_fields(classes[value]), *(f.name for f in _functions(classes[value]))]
            yield f"  - has {', '.join(f'`{name}`' for name in attributes)}"


def _values(place: str, names: tuple[str, ...]) -> Iterator[str]:
    """A module's constants, and for each of these classes its members and a line for each public method."""
    text = (PACKAGE / place).read_text(encoding="utf-8")
    module = ast.parse(text)
    yield from ("", f"**`{place}`** {_sentence(module)}", "")
    yield f"- {', '.join(f'`{name}`' for name in _assigned(module) if name.isupper())}"
    for node in module.body:
        if isinstance(node, ast.ClassDef) and node.name in names:
            yield f"- `{node.name}`: {_sentence(node)}"
            yield from (f"  - {member}" for member in _members(node, text.splitlines()))
            yield from (f"  - `.{_called(method)}`: {_sentence(method)}" for method in _functions(node))


def _members(owner: ast.ClassDef, lines: list[str]) -> Iterator[str]:
    """The members of an enumeration, each with the comment on its line."""
    for node in owner.body:
        if isinstance(node, ast.Assign):
            comment = lines[node.lineno - 1].partition("  # ")[2]
            yield f"`.{ast.unparse(node.targets[0])}`" + (f": {comment}" if comment else "")


def _folder(folder: str, *, with_methods: bool) -> Iterator[str]:
    for path in sorted((PACKAGE / folder).glob("*.py")):
        if path.name != "__init__.py":
            yield from _module(f"{folder}/{path.name}", with_methods=with_methods)


def _module(place: str, *, with_methods: bool) -> Iterator[str]:
    """A module's sentence, then a line for each public function and class, and for each public method of these."""
    module = _tree(PACKAGE / place)
    yield from ("", f"**`{place}`** {_sentence(module)}", "")
    patterns = [name for name in _assigned(module) if not with_methods and name.isupper()]
    if patterns:
        yield f"- {', '.join(f'`{name}`' for name in patterns)}"
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield f"- `{_called(node)}`: {_sentence(node)}"
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield f"- `{node.name}({', '.join(_fields(node))})`: {_sentence(node)}"
            yield from (f"  - `.{_called(m)}`: {_sentence(m)}" for m in _functions(node) if with_methods)


def _assigned(module: ast.Module) -> list[str]:
    """Public names that a module gives a value."""
    targets = [target for node in module.body if isinstance(node, ast.Assign) for target in node.targets]
    names = [name for target in targets for name in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [name.id for name in names if isinstance(name, ast.Name) and not name.id.startswith("_")]


def _fields(owner: ast.ClassDef) -> list[str]:
    return [
        n.target.id
        for n in owner.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and not n.target.id.startswith("_")
    ]


def _functions(owner: ast.ClassDef) -> list[ast.FunctionDef]:
    return [n for n in owner.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]


def _called(function: ast.FunctionDef) -> str:
    """How it is called and what it gives: parameters by name, without their types."""
    result = ast.unparse(function.returns) if function.returns else "None"
    if any("property" in ast.unparse(d) for d in function.decorator_list):
        return f"{function.name} -> {result}"
    given = [a.arg for a in function.args.args if a.arg != "self"]
    named = ["*", *(a.arg for a in function.args.kwonlyargs)] if function.args.kwonlyargs else []
    rest = [f"*{function.args.vararg.arg}"] if function.args.vararg else []
    return f"{function.name}({', '.join([*given, *rest, *named])}) -> {result}"


def _sentence(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    """The first paragraph of a docstring."""
    document = ast.get_docstring(node)
    assert document, f"{getattr(node, 'name', 'a module')} has no docstring, and so no line on the page"
    return " ".join(document.split("\n\n")[0].split())


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
