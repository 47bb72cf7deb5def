"""Files, functions and their parameters stay small enough to read."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.architecture.sources import Module, Package

MAX_FILE, MAX_FUNCTION, MAX_NESTING, MAX_PARAMETERS, MAX_POSITIONAL = 300, 50, 3, 5, 2

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(package: Package) -> Iterator[tuple[Module, Function]]:
    for module in package.modules.values():
        yield from ((module, n) for n in ast.walk(module.tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def long_files(package: Package) -> list[str]:
    """Files of more than MAX_FILE lines."""
    counted = [(m.path, len(m.text.splitlines())) for m in package.modules.values()]
    return [f"{path} has {lines} lines" for path, lines in counted if lines > MAX_FILE]


def long_functions(package: Package) -> list[str]:
    """Functions of more than MAX_FUNCTION lines, docstrings left out."""
    found = []
    for module, node in _functions(package):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        lines -= len((ast.get_docstring(node) or "").splitlines())
        if lines > MAX_FUNCTION:
            found.append(f"{module.path}: {node.name} has {lines} lines")
    return found


def deep_functions(package: Package) -> list[str]:
    """Functions with decisions nested more than MAX_NESTING deep."""
    deep = [(module.path, node.name, nesting(node.body)) for module, node in _functions(package)]
    return [f"{path}: {name} is nested {depth} deep" for path, name, depth in deep if depth > MAX_NESTING]


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


def wide_functions(package: Package) -> list[str]:
    """Functions of more than MAX_PARAMETERS; a public one whose options are keyword-only may have more, and so may a verb."""
    found = []
    for module, node in _functions(package):
        if node.decorator_list:
            continue
        positional = [a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
        every = len(positional) + len(node.args.kwonlyargs)
        options = not node.name.startswith("_") and len(positional) <= MAX_POSITIONAL
        if len(positional) > MAX_PARAMETERS or (every > MAX_PARAMETERS and not options):
            found.append(f"{module.path}: {node.name} takes {every} parameters")
    return found
