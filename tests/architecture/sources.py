"""The sources of a package as syntax trees, and which of its modules imports which.

Every import counts: at the top of a module, inside a function, under `if TYPE_CHECKING:`, and a module's name as a string, which
is how lazy packages import. Importing a module runs the `__init__` of the packages that it lies in, so that counts too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Module:
    """One source file."""

    name: str  # mfu_doctor.analysis.run
    path: str  # inside the package: analysis/run.py
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether it is the `__init__` of a folder."""
        return self.path.endswith("__init__.py")


@dataclass(frozen=True, slots=True)
class Package:
    """All modules of a package by their names."""

    name: str
    modules: Mapping[str, Module]

    def room(self, module: Module) -> str:
        """The room that a module stands in: its folder; where a folder holds further folders, each file is a room of its own."""
        folder = module.name if module.is_package else module.name.rpartition(".")[0]
        if not self._holds_folders(folder):
            return folder
        return f"{folder}.__init__" if module.is_package else module.name

    def _holds_folders(self, folder: str) -> bool:
        return any(m.is_package and m.name.startswith(f"{folder}.") for m in self.modules.values())


def read_package(root: Path) -> Package:
    """Parse every source file below a package's folder."""
    modules = {}
    for path in sorted(root.rglob("*.py")):
        inner = path.relative_to(root)
        parts = inner.parent.parts if inner.name == "__init__.py" else inner.with_suffix("").parts
        name = ".".join((root.name, *parts))
        text = path.read_text(encoding="utf-8")
        modules[name] = Module(name, inner.as_posix(), text, ast.parse(text))
    return Package(root.name, modules)


def imported_names(module: Module) -> Iterator[str]:
    """Everything that a module's import statements name, of any package; `from a import b` names both a and a.b."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports(package: Package, module: Module) -> set[str]:
    """Names of the modules of its own package that a module asks for."""
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & set(package.modules)
            if inner - set(package.modules):  # a name of the module itself
                found.add(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not within(module.name, node.value):
            found.add(node.value)
    return {name for name in found if name in package.modules and name != module.name}


def with_packages(package: Package, module: Module, targets: set[str]) -> set[str]:
    """These modules and the packages that importing them runs, but for those that the module itself lies in."""
    around = {".".join(parts[:i]) for t in targets if (parts := t.split(".")) for i in range(1, len(parts))}
    return targets | {
        name for name in around if name in package.modules and not f"{module.name}.".startswith(f"{name}.")
    }


def within(name: str, package: str) -> bool:
    """Whether a module lies in a package, or is it."""
    return f"{name}.".startswith(f"{package}.")
