"""The line of the program that asks a library for what it does besides training: a callback that is made, or an option.

A trainer saves and evaluates by itself, and no line of the program calls it for that: the nearest is `trainer.fit()`, which is
the training. What can be changed is the line that says how often. It is looked for in the text of the program's own files, after
the run. A line is named only if it is the only one that fits.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

_MOST_BYTES = 1 << 20  # of a file: what a person writes is shorter
_MOST_FILES = 64
# Words in the names of arguments, by kind of work. One of a class that does nothing else needs none.
_ABOUT = {
    "checkpoint": re.compile(r"(^|_)(save|saves|saving|checkpoint|checkpoints|checkpointing|ckpt)(_|$)"),
    "evaluation": re.compile(r"(^|_)(eval|evaluate|evaluation|val|validate|validation|test)(_|$)"),
    "logging": re.compile(r"(^|_)(log|logs|logging)(_|$)"),
}
# Arguments that say how often, the plainest first.
_OFTEN = (re.compile(r"every|steps|interval|freq|period"), re.compile(r"strategy|epoch"))


class _Option(Struct, frozen=True):
    """An argument by name in a call: "file", line, name of what is called, name of the argument."""

    file: str
    line: int
    call_line: int
    called: str
    name: str


def set_up_at(files: Iterable[str], owner: str | None, kind: str | None) -> tuple[str, int] | None:
    """File and line that say how often this is done; None if none does, or several.

    Args:
        files: the program's own files.
        owner: the class whose method does it; None if that is the one that trains, too, or if nothing tells.
        kind: what it is, as in `Elsewhere`.
    """
    calls = list(_calls(files))
    own = [call for call in calls if owner is not None and call[1] == owner]
    if own:
        file, called, node = own[0]
        told = _how_often(_options(file, called, node))
        return None if len(own) > 1 else (file, node.lineno if told is None else told.line)
    about = _ABOUT.get(kind or "")
    if about is None:
        return None
    options = [option for call in calls for option in _options(*call) if about.search(option.name)]
    often = [option for option in options if any(pattern.search(option.name) for pattern in _OFTEN)]
    told = _how_often(often)
    alone = len({(option.file, option.call_line, option.called) for option in often}) == 1
    return (told.file, told.line) if told is not None and alone else None


def _how_often(options: list[_Option]) -> _Option | None:
    return next((option for pattern in _OFTEN for option in options if pattern.search(option.name)), None)


def _calls(files: Iterable[str]) -> Iterator[tuple[str, str, ast.Call]]:
    """Each call in these files with the last name of what it calls."""
    for file in list(files)[:_MOST_FILES]:
        calls = (node for node in ast.walk(_tree(file)) if isinstance(node, ast.Call))
        named = ((getattr(node.func, "attr", getattr(node.func, "id", None)), node) for node in calls)
        yield from ((file, called, node) for called, node in named if called is not None)


def _tree(file: str) -> ast.AST:
    """The program in a file; an empty one if it cannot be read: it may be a notebook's cell, or have changed."""
    path = Path(file)
    try:
        if path.stat().st_size > _MOST_BYTES:
            return ast.Module([], [])
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])


def _options(file: str, called: str, node: ast.Call) -> list[_Option]:
    return [
        _Option(file, keyword.value.lineno, node.lineno, called, keyword.arg)
        for keyword in node.keywords
        if keyword.arg is not None and not _is_off(keyword.value)
    ]


def _is_off(value: ast.expr) -> bool:
    """Whether an argument switches something off: 0, False, None, "no"."""
    return isinstance(value, ast.Constant) and (not value.value or value.value == "no")
