"""Where the names of a program come from, by its syntax tree: what a call means depends on it."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from itertools import takewhile
from typing import TypeAlias

Origins: TypeAlias = dict[str, set[str]]
"""The packages that each name of a program is imported from; "" for what it defines, "." for what stands beside it."""

_Import: TypeAlias = ast.Import | ast.ImportFrom


def origins_of(tree: ast.Module) -> Origins:
    """The names that imports and definitions bind anywhere in the program."""
    found: Origins = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                for alias in aliases:
                    package = alias.name.partition(".")[0]
                    found.setdefault(alias.asname or package, set()).add(package)
            case ast.ImportFrom(names=aliases, module=module, level=level):
                for alias in aliases:
                    package = (module or "").partition(".")[0] if not level else "."
                    found.setdefault(alias.asname or alias.name, set()).add(package)
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                found.setdefault(name, set()).add("")
    return found


def root_of(called: ast.expr) -> str:
    """The name that an expression begins with: "torch" of `torch.optim.AdamW`; empty if it begins with none."""
    while isinstance(called, ast.Attribute):
        called = called.value
    return called.id if isinstance(called, ast.Name) else ""


def import_block(tree: ast.Module, needed: Sequence[str]) -> list[_Import]:
    """The imports of the outermost level in one row, from the first one of a package of torch that is needed on.

    Modules of the standard library are imported wherever the first imports are. Empty if there are none.
    """
    body = tree.body
    starts = [
        i
        for i, node in enumerate(body)
        if isinstance(node, _Import) and ("torch" not in needed or "torch" in _packages(node))
    ]
    if not starts:
        return []
    first = starts[0]
    return [
        node for node in takewhile(lambda node: isinstance(node, _Import), body[first:]) if isinstance(node, _Import)
    ]


def bound_by(nodes: Sequence[ast.stmt]) -> set[str]:
    """Modules that these statements import under their own names."""
    plain = (alias for node in nodes if isinstance(node, ast.Import) for alias in node.names if alias.asname is None)
    return {alias.name.partition(".")[0] for alias in plain}


def _packages(node: _Import) -> set[str]:
    names = (
        [alias.name for alias in node.names]
        if isinstance(node, ast.Import)
        else [node.module or ""]
        if not node.level
        else []
    )
    return {name.partition(".")[0] for name in names}
