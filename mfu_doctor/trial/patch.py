"""The fixes that helped, written into the user's program: a diff, and the lines whose place is not certain. No file is changed.

An edit is certain if the syntax tree shows one place for it: the call at the line of the finding, or the only such call of the
program. An argument that is computed (`num_workers=args.workers`) is the user's to change.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from mfu_doctor.trial.remedies.remedy import AfterImports, Chosen, Edit, Keywords

_CONTEXT = 3  # lines around a change


class Patch(Struct, frozen=True):
    """What to change.

    Attributes:
        diff: a unified diff; empty if no place is certain.
        by_hand: lines to paste where no place is certain.
    """

    diff: str = ""
    by_hand: tuple[str, ...] = ()


def patch_of(fixes: Sequence[tuple[Chosen, str | None]], script: Path | None) -> Patch:
    """The changes for these fixes.

    Args:
        fixes: each with the place of its finding ("train.py:41"), if that is known.
        script: the file of the program; None if it is not known.
    """
    source = _text_of(script)
    if source is None or script is None:
        return Patch(by_hand=tuple(fix.line for fix, _ in fixes))
    new, by_hand = source, list[str]()
    for fix, place in fixes:
        edited = _edited(new, fix, _line_in(place, script) if new == source else None)
        if edited is None:
            by_hand.append(fix.line)
        else:
            new = edited
    named = _named(script)
    rows = difflib.unified_diff(
        source.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{named}", f"b/{named}", n=_CONTEXT
    )
    return Patch(
        "".join(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n" for row in rows), tuple(by_hand)
    )


def _named(script: Path) -> str:
    """As `git apply` and `patch -p1` take it: from the working directory, else from the folder of the script."""
    whole, here = script.resolve(), Path.cwd().resolve()
    return whole.relative_to(here).as_posix() if whole.is_relative_to(here) else script.name


def _text_of(script: Path | None) -> str | None:
    try:
        return script.read_bytes().decode() if script is not None else None
    except (OSError, UnicodeDecodeError):
        return None


def _line_in(place: str | None, script: Path) -> int | None:
    """The line of a place, if it is in this file."""
    file, _, line = (place or "").rpartition(":")
    return int(line) if line.isdecimal() and file and Path(file).name == script.name else None


def _edited(source: str, fix: Chosen, line: int | None) -> str | None:
    """The program with one fix; None if its place is not certain."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    ways = (_with_edit(source, tree, edit, line) for edit in fix.edits)
    return next((edited for edited in ways if edited is not None and _parses(edited)), None)


def _with_edit(source: str, tree: ast.Module, edit: Edit, line: int | None) -> str | None:
    match edit:
        case Keywords():
            meant = not edit.libraries or not _packages(tree).isdisjoint(edit.libraries)
            return _with_keywords(source, _the_call(tree, edit.of, line), edit) if meant else None
        case AfterImports():
            return _after_imports(source, tree, edit) if not _calls(tree, edit.unless) else None


def _packages(tree: ast.Module) -> set[str]:
    """The packages that the program imports from."""
    names = set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=found):
                names |= {alias.name for alias in found}
            case ast.ImportFrom(module=str(module), level=0):
                names.add(module)
    return {name.partition(".")[0] for name in names}


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def _the_call(tree: ast.Module, names: Sequence[str], line: int | None) -> ast.Call | None:
    """The one call of something with one of these names: at this line, else in all of the program."""
    calls = _calls(tree, names)
    here = [call for call in calls if line is not None and call.lineno <= line <= (call.end_lineno or call.lineno)]
    chosen = here or calls
    return chosen[0] if len(chosen) == 1 else None


def _calls(tree: ast.Module, names: Sequence[str]) -> list[ast.Call]:
    """All calls of something with one of these names."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and not _names(node.func).isdisjoint(names)]


def _names(called: ast.expr) -> set[str]:
    """The last name of what is called, and the whole one."""
    return {getattr(called, "attr", getattr(called, "id", "")), ast.unparse(called)}


def _takes(call: ast.Call, keywords: Keywords) -> bool:
    """Whether the call takes these arguments beside those that it has."""
    if any(keyword.arg is None for keyword in call.keywords):
        return False
    count = math.inf if any(isinstance(argument, ast.Starred) for argument in call.args) else len(call.args)
    if keywords.most is not None and count > keywords.most:
        return False
    others = [keyword.value for keyword in call.keywords if keyword.arg in keywords.unless]
    return all(isinstance(value, ast.Constant) and not value.value for value in others)


def _with_keywords(source: str, call: ast.Call | None, keywords: Keywords) -> str | None:
    """The source with these arguments in this call; None if it does not take them, or one of them is computed there."""
    if call is None or not _takes(call, keywords):
        return None
    data, edits = source.encode(), list[tuple[int, int, str]]()
    words = dict(keywords.words)
    present = {keyword.arg: keyword.value for keyword in call.keywords}
    for name, value in words.items():
        old = present.get(name)
        if old is not None and not isinstance(old, ast.Constant):
            return None
        if old is not None:
            edits.append((*_span(data, old), value))
    added = ", ".join(f"{name}={value}" for name, value in words.items() if name not in present)
    if added:
        bracket = _span(data, call)[1] - 1
        arguments: list[ast.expr | ast.keyword] = [*call.args, *call.keywords]
        ends = [_span(data, argument)[1] for argument in arguments]
        at = max(ends, default=bracket)  # not before the bracket: a comment may stand there
        if at > bracket:
            return None  # f(x for x in y): the brackets are those of the argument
        edits.append((at, at, f"{', ' if ends else ''}{added}"))
    for start, stop, text in sorted(edits, reverse=True):
        data = data[:start] + text.encode() + data[stop:]
    return data.decode()


def _span(data: bytes, node: ast.expr | ast.keyword) -> tuple[int, int]:
    """Where an expression or an argument begins and ends, in bytes: that is how syntax trees count columns."""
    starts = [0]
    for row in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
    return starts[node.lineno - 1] + node.col_offset, starts[end_line - 1] + end_column


def _after_imports(source: str, tree: ast.Module, edit: AfterImports) -> str | None:
    """The source with these statements after its last import of the outermost level."""
    at = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    if not at:
        return None
    known = {alias.asname or alias.name for node in at if isinstance(node, ast.Import) for alias in node.names}
    rows = source.splitlines(keepends=True)
    end = at[-1].end_lineno or at[-1].lineno
    if not rows[end - 1].endswith("\n"):
        rows[end - 1] += "\n"
    needed = [f"import {name}\n" for name in edit.imports if name not in known]
    return "".join([*rows[:end], *needed, "\n", *(f"{row}\n" for row in edit.lines), *rows[end:]])
