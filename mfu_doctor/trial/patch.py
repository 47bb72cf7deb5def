"""The fixes that helped, written into the user's program: a diff, and the lines whose place is not certain. No file is changed.

An edit is certain if the syntax tree shows one place for it: the call at the line of the finding, or what makes that over which
the loop there goes, or what all ways to write the fix have in common, a single call in the program. A finding in another file, a
loop over what is made elsewhere, a call of another package's class of the same name: there the user knows more. So with an
argument that is computed (`num_workers=args.workers`).
"""

from __future__ import annotations

import ast
import difflib
import io
import math
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from mfu_doctor.trial.goes_over import covers, is_made_by, iterables_at, last_name, lines_of_training
from mfu_doctor.trial.imports import Origins, bound_by, import_block, origins_of, root_of
from mfu_doctor.trial.remedies.remedy import AfterImports, Chosen, Edit, Keywords

_CONTEXT = 3  # lines around a change
_LOADER = "DataLoader"


class Patch(Struct, frozen=True):
    """What to change.

    Attributes:
        diff: a unified diff; empty if no place is certain.
        by_hand: lines to paste where no place is certain.
    """

    diff: str = ""
    by_hand: tuple[str, ...] = ()


def patch_of(fixes: Sequence[tuple[Chosen, str | None]], script: Path | None, *, on_gpu: bool = True) -> Patch:
    """The changes for these fixes.

    Args:
        fixes: each with the place of its finding ("train.py:41"), if that is known.
        script: the file of the program; None if it is not known.
        on_gpu: whether the steps ran on an accelerator.
    """
    source = _text_of(script)
    if source is None or script is None:
        return Patch(by_hand=tuple(fix.line for fix, _ in fixes))
    new, written = source, set[Chosen]()
    # lines are added last: a place is a line of the unchanged program
    for fix, place in sorted(fixes, key=lambda each: any(isinstance(edit, AfterImports) for edit in each[0].edits)):
        edited = _edited(new, [edit for edit in fix.edits if _is_for(edit, on_gpu=on_gpu)], _place_in(place, script))
        if edited is not None:
            new = edited
            written.add(fix)
    named = _named(script)
    rows = difflib.unified_diff(_rows(source), _rows(new), f"a/{named}", f"b/{named}", n=_CONTEXT)
    return Patch(
        "".join(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n" for row in rows),
        tuple(fix.line for fix, _ in fixes if fix not in written),
    )


def _rows(source: str) -> list[str]:
    """Its lines as Python counts them, each with its end: a form feed is none."""
    return io.StringIO(source, newline="").readlines()


def _is_for(edit: Edit, *, on_gpu: bool) -> bool:
    return on_gpu or not (isinstance(edit, Keywords) and edit.on_gpu)


def _named(script: Path) -> str:
    """As `git apply` and `patch -p1` take it: from the working directory, else from the folder of the script."""
    whole, here = script.resolve(), Path.cwd().resolve()
    return whole.relative_to(here).as_posix() if whole.is_relative_to(here) else script.name


def _text_of(script: Path | None) -> str | None:
    try:
        return script.read_bytes().decode() if script is not None else None
    except (OSError, UnicodeDecodeError):
        return None


def _place_in(place: str | None, script: Path) -> int | None:
    """The line of a place in this file; 0 if it is in another one, None if it is not known."""
    file, _, line = (place or "").rpartition(":")
    if not file or not line.isdecimal():
        return None
    path = Path(file)
    if path.name == file and not path.exists():  # outside the working directory files have their names only
        return int(line) if file == script.name else 0
    return int(line) if path.resolve() == script.resolve() else 0


def _edited(source: str, edits: Sequence[Edit], line: int | None) -> str | None:
    """The program with one of these; None if its place is not certain."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    edited = next((_after_imports(source, tree, edit) for edit in edits if isinstance(edit, AfterImports)), None)
    if edited is None and line != 0:
        found = _the_call(tree, [edit for edit in edits if isinstance(edit, Keywords)], line)
        edited = _with_keywords(source, *found) if found is not None else None
    return edited if edited is not None and edited != source and _parses(edited) else None


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def _the_call(tree: ast.Module, edits: Sequence[Keywords], line: int | None) -> tuple[ast.Call, Keywords] | None:
    """The one call that one of these edits changes: at this line or of the loop there, else in all of the program."""
    origins = origins_of(tree)
    calls = [
        (call, edit)
        for edit in edits
        for call in _calls(tree, edit.of)
        if _is_meant(call, edit, origins) and _has_needed(call, edit)
    ]
    here = [(call, edit) for call, edit in calls if line is not None and covers(call, line)]
    iterables = _iterables(tree, edits, calls, line)
    looped = [found for found in calls if any(is_made_by(tree, iterable, found[0]) for iterable in iterables)]
    chosen = here or looped or ([] if iterables else _single(tree, calls))
    if len(chosen) != 1 or any(_calls(tree, edit.against) for _, edit in chosen):
        return None
    return chosen[0]


def _iterables(
    tree: ast.Module, edits: Sequence[Keywords], calls: Sequence[tuple[ast.Call, Keywords]], line: int | None
) -> list[ast.expr]:
    """What the training takes its batches from, as far as the file shows it; nothing if these edits are not about that."""
    if not any(_LOADER in edit.of for edit in edits):
        return []
    around = any(_LOADER in edit.of for _, edit in calls)
    here = iterables_at(tree, line, around=around) if line is not None else []
    if here or not around:
        return here
    return [found for each in lines_of_training(tree) for found in iterables_at(tree, each, around=True)]


def _single(tree: ast.Module, calls: Sequence[tuple[ast.Call, Keywords]]) -> list[tuple[ast.Call, Keywords]]:
    """Those beside which nothing of their name is called, be it of another package or without what the edit needs."""
    return [(call, edit) for call, edit in calls if len(_calls(tree, edit.of)) == 1]


def _is_meant(call: ast.Call, edit: Keywords, origins: Origins) -> bool:
    """Whether it is torch's, or of one of the libraries of the edit, as far as the imports tell."""
    packages = origins.get(root_of(call.func))
    if edit.libraries:
        known = packages if packages is not None else set().union(*origins.values())
        return not known.isdisjoint(edit.libraries)
    if packages is None:
        return not edit.is_function
    return packages <= {"torch"}


def _has_needed(call: ast.Call, edit: Keywords) -> bool:
    """Whether it has the arguments without which those of the edit would do nothing, or fail."""
    given = _given(call, edit)
    written = {name for name, _ in edit.words}
    return all(name in given and (name in written or not _is_off(given[name])) for name in edit.needs)


def _given(call: ast.Call, edit: Keywords) -> dict[str | None, ast.expr]:
    """Its arguments by their names, as far as these are known."""
    return dict(zip(edit.places, call.args, strict=False)) | {word.arg: word.value for word in call.keywords}


def _calls(tree: ast.Module, names: Sequence[str]) -> list[ast.Call]:
    """All calls of something with one of these names."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and not _names(node.func).isdisjoint(names)]


def _names(called: ast.expr) -> set[str]:
    """The last name of what is called, and the whole one."""
    return {last_name(called), ast.unparse(called)}


def _takes(call: ast.Call, keywords: Keywords) -> bool:
    """Whether the call takes these arguments beside those that it has."""
    if any(keyword.arg is None for keyword in call.keywords):
        return False
    count = math.inf if any(isinstance(argument, ast.Starred) for argument in call.args) else len(call.args)
    if keywords.most is not None and count > keywords.most:
        return False
    others = [keyword.value for keyword in call.keywords if keyword.arg in keywords.unless]
    return all(_is_off(value) for value in others)


def _is_off(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and not value.value


def _with_keywords(source: str, call: ast.Call, keywords: Keywords) -> str | None:
    """The source with these arguments in this call; None if it does not take them, or one of them is computed there."""
    if not _takes(call, keywords):
        return None
    data, edits = source.encode(), list[tuple[int, int, str]]()
    words = dict(keywords.words)
    present = _given(call, keywords)
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
    """The source with these statements after the first imports of what they need; None if these stand nowhere for certain."""
    block = import_block(tree, edit.imports)
    if not block or _calls(tree, edit.unless):
        return None
    end = block[-1].end_lineno or block[-1].lineno
    if any(node.lineno <= end <= (node.end_lineno or end) for node in tree.body if node not in block):
        return None  # import torch; text = """...
    rows = _rows(source)
    mark = "\r\n" if rows[end - 1].endswith("\r\n") else "\n"
    if not rows[end - 1].endswith(("\n", "\r")):
        rows[end - 1] += mark
    known = bound_by([node for node in tree.body if node.lineno <= end])
    added = [*(f"import {name}" for name in edit.imports if name not in known), "", *edit.lines]
    return "".join([*rows[:end], *(f"{row}{mark}" for row in added), *rows[end:]])
