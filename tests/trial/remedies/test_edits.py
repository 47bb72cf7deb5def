"""What the edits of the catalogue write into a program: calls that torch takes."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mfu_doctor.trial.patch import patch_of
from mfu_doctor.trial.remedies.catalogue import REMEDIES
from mfu_doctor.trial.remedies.remedy import Chosen, Keywords, Remedy

torch = pytest.importorskip("torch", reason="the calls are those of torch")

KEYWORDS = [(remedy, remedy.edit) for remedy in REMEDIES if isinstance(remedy.edit, Keywords)]


def called(name: str) -> list[Callable[..., Any]]:
    """What torch has of this name."""
    from torch import distributed, nn, optim
    from torch.nn import parallel, utils
    from torch.utils import data

    full = {"DDP": "DistributedDataParallel"}.get(name, name.rpartition(".")[2])
    owners = (torch, torch.amp, torch.cuda.amp, data, distributed, nn, optim, parallel, utils)
    methods = [getattr(kind, full).__get__(object()) for kind in (nn.Module, optim.Optimizer) if hasattr(kind, full)]
    return [*methods, *(getattr(owner, full) for owner in owners if hasattr(owner, full))]


def edited(folder: Path, remedy: Remedy, source: str) -> str | None:
    """The call with the edit; None if it is left."""
    script = folder / "train.py"
    script.write_text(source)
    rows = patch_of([(Chosen(remedy, "2"), None)], script).diff.splitlines()
    return next((row[1:] for row in rows[2:] if row.startswith("+")), None)


def positional(call: Callable[..., Any]) -> int:
    kinds = [parameter.kind for parameter in inspect.signature(call).parameters.values()]
    return kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)


def calls(edit: Keywords) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in edit.of:
        found = called(name)
        assert found, name
        yield from ((name, call) for call in found)


@pytest.mark.parametrize(("remedy", "edit"), KEYWORDS, ids=lambda it: getattr(it, "name", ""))
def test_no_argument_is_given_twice(tmp_path: Path, remedy: Remedy, edit: Keywords) -> None:
    """However many arguments the call has by position."""
    for name, call in calls(edit):
        for count in range(positional(call) + 1):
            new = edited(tmp_path, remedy, f"{name}({', '.join('a' * count)})\n")
            assert new or count, f"{name}() is left"
            if new is not None:
                (made,) = [node for node in ast.walk(ast.parse(new)) if isinstance(node, ast.Call)]
                inspect.signature(call).bind_partial(*made.args, **{str(word.arg): word for word in made.keywords})


def test_implementations_of_an_optimizer_exclude_each_other(tmp_path: Path) -> None:
    fused, foreach = (remedy for remedy, _ in KEYWORDS if remedy.name in ("fused-optimizer", "foreach-optimizer"))
    assert edited(tmp_path, fused, "AdamW(p, foreach=True)\n") is None
    assert edited(tmp_path, foreach, "AdamW(p, fused=True)\n") is None
    assert edited(tmp_path, foreach, "AdamW(p, fused=False)\n") == "AdamW(p, fused=False, foreach=True)"
    assert fused.one_of == foreach.one_of is not None
