"""Imports point down: floors, circles, and the one home of each heavy import."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence

from tests.architecture.sources import Module, Package, imported_names, imports, with_packages

Floors = Sequence[Sequence[str]]


def place_of(module: Module, floors: Floors) -> str | None:
    """The entry of the table that a module belongs to: the longest one that its path begins with."""
    path = module.path.removesuffix(".py")
    entries = [entry for floor in floors for entry in floor if f"{path}/".startswith(f"{entry}/")]
    return max(entries, key=len, default=None)


def without_a_floor(package: Package, floors: Floors) -> list[str]:
    """Modules that no entry of the table names; an `__init__` with nothing but its docstring needs none."""
    return [m.path for m in package.modules.values() if place_of(m, floors) is None and not _is_bare(m)]


def entries_without_modules(package: Package, floors: Floors) -> list[str]:
    """Entries of the table that name nothing (any more)."""
    named = {place_of(module, floors) for module in package.modules.values()}
    return [entry for floor in floors for entry in floor if entry not in named]


def _is_bare(module: Module) -> bool:
    return module.is_package and not [n for n in module.tree.body if not isinstance(n, ast.Expr)]


def imports_that_climb(package: Package, floors: Floors) -> list[str]:
    """Imports of a higher floor, or of another place on the same one."""
    number = {entry: i for i, floor in enumerate(floors) for entry in floor}
    found = []
    for module in package.modules.values():
        own = place_of(module, floors)
        for name in sorted(imports(package, module)):
            other = place_of(package.modules[name], floors)
            if own is None or other is None or own == other or number[other] < number[own]:
                continue
            found.append(f"{module.path} (floor {number[own]}) imports {name} (floor {number[other]})")
    return found


def relative_imports(package: Package) -> list[str]:
    """Imports that do not say which module they mean."""
    return [m.path for m in package.modules.values() if any(name.startswith(".") for name in imported_names(m))]


def module_circles(package: Package) -> list[str]:
    """Modules that import each other, one line per circle."""
    graph = {name: with_packages(package, module, imports(package, module)) for name, module in package.modules.items()}
    return circles(graph)


def room_circles(package: Package) -> list[str]:
    """Rooms whose modules import each other's, one line per circle."""
    graph: dict[str, set[str]] = {}
    for module in package.modules.values():
        own = package.room(module)
        targets = with_packages(package, module, imports(package, module))
        graph.setdefault(own, set()).update({package.room(package.modules[t]) for t in targets} - {own})
    return circles(graph)


def circles(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """One line for each group of nodes that all lead to each other."""
    reach = {node: _reachable(graph, node) for node in graph}
    groups = {
        frozenset(other for other in reach[node] if node in reach[other]) for node in graph if node in reach[node]
    }
    return sorted(" - ".join(sorted(group)) for group in groups)


def _reachable(graph: Mapping[str, Iterable[str]], start: str) -> set[str]:
    found: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        node = ahead.pop()
        if node not in found:
            found.add(node)
            ahead.extend(graph.get(node, ()))
    return found


def imports_away_from_home(package: Package, homes: Mapping[str, Sequence[str]]) -> list[str]:
    """Imports of a module that has a home (files, or folders with "/" at the end) anywhere else."""
    found = []
    for module in package.modules.values():
        tops = {name.partition(".")[0] for name in imported_names(module)} & set(homes)
        for top in sorted(tops):
            if not any(
                module.path == home or (home.endswith("/") and module.path.startswith(home)) for home in homes[top]
            ):
                found.append(f"{module.path} imports {top}")
    return found
