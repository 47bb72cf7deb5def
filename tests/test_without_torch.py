"""Tests that need torch say so before they import it: .ci/run tries other libraries' versions on Pythons that have no torch."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.traces import ROOT

GUARD = 'pytest.importorskip("torch", reason="torch is not installed")'
TESTS = ROOT / "tests"


def imports(source: str) -> set[str]:
    """Modules that a source imports when it is itself imported, those inside functions left out."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@cache
def needs_torch(path: Path) -> bool:
    """Whether a file of the tests cannot be imported without torch, by itself or by what it imports of the tests."""
    names = imports(path.read_text(encoding="utf-8"))
    if any(name.partition(".")[0] == "torch" for name in names):
        return True
    ours = [ROOT / Path(*name.split(".")).with_suffix(".py") for name in names if name.startswith("tests.")]
    return any(needs_torch(other) for other in ours if other.is_file())


def test_a_test_that_imports_torch_skips_without_it() -> None:
    unguarded = [
        str(path.relative_to(ROOT))
        for path in sorted(TESTS.rglob("test_*.py"))
        if needs_torch(path) and f"\n{GUARD}\n" not in path.read_text(encoding="utf-8")
    ]
    assert not unguarded, f"write before the import of torch: {GUARD}"


@pytest.mark.parametrize("source", ["import torch", "from torch import nn", "import torch.nn as nn"])
def test_an_import_is_seen(tmp_path: Path, source: str) -> None:
    path = tmp_path / "test_new.py"
    path.write_text(f"{source}\n", encoding="utf-8")
    assert needs_torch(path)
    path.write_text(f"def later():\n    {source}\n", encoding="utf-8")
    assert not needs_torch.__wrapped__(path)
