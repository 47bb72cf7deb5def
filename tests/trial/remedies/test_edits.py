"""What the edits of the catalogue write into a program: calls that torch takes."""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mfu_doctor.trial.patch import patch_of
from mfu_doctor.trial.remedies.catalogue import REMEDIES
from mfu_doctor.trial.remedies.remedy import Chosen, Keywords, Remedy

torch = pytest.importorskip("torch", reason="the calls are those of torch")

EDITS = [(remedy, edit) for remedy in REMEDIES for edit in remedy.edits if isinstance(edit, Keywords)]
KEYWORDS = [(remedy, edit) for remedy, edit in EDITS if not edit.libraries and not edit.places]
BY_PLACE = [(remedy, edit) for remedy, edit in EDITS if edit.places]
TRAINERS = [(remedy, edit) for remedy, edit in EDITS if edit.libraries]


def called(name: str) -> list[Callable[..., Any]]:
    """What torch has of this name."""
    from torch import autograd, distributed, nn, optim
    from torch.nn import parallel, utils
    from torch.utils import data

    full = {"DDP": "DistributedDataParallel"}.get(name, name.rpartition(".")[2])
    owners = (torch, autograd, torch.amp, torch.cuda.amp, data, distributed, nn, optim, parallel, utils)
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


@pytest.mark.parametrize(("remedy", "edit"), BY_PLACE, ids=lambda it: getattr(it, "name", ""))
def test_an_argument_that_is_given_by_its_place_is_replaced_there(
    tmp_path: Path, remedy: Remedy, edit: Keywords
) -> None:
    for name, call in calls(edit):
        if not inspect.isbuiltin(call):  # their names are not known
            assert tuple(inspect.signature(call).parameters)[: len(edit.places)] == edit.places
        ((_, value),) = edit.words
        new = edited(tmp_path, remedy, f"import torch\ntorch.{name}({0})\n")
        assert new == f"torch.{name}({value.replace('{setting}', '2')})"


@pytest.mark.parametrize(("remedy", "edit"), KEYWORDS, ids=lambda it: getattr(it, "name", ""))
def test_no_argument_is_given_twice(tmp_path: Path, remedy: Remedy, edit: Keywords) -> None:
    """However many arguments the call has by position."""
    for name, call in calls(edit):
        for count in range(positional(call) + 1):
            needed = [f"{word}={False if word in dict(edit.words) else 'n'}" for word in edit.needs]
            if any(list(inspect.signature(call).parameters).index(word) < count for word in edit.needs):
                continue  # it is given by position
            imports = f"from torch import {name.partition('.')[0]}\n"  # all that counts is that it is torch's
            new = edited(tmp_path, remedy, f"{imports}{name}({', '.join(['a'] * count + needed)})\n")
            assert new or count, f"{name}() is left"
            if new is not None:
                (made,) = [node for node in ast.walk(ast.parse(new)) if isinstance(node, ast.Call)]
                inspect.signature(call).bind_partial(*made.args, **{str(word.arg): word for word in made.keywords})


@pytest.mark.parametrize(("remedy", "edit"), TRAINERS, ids=lambda it: getattr(it, "name", ""))
def test_arguments_of_trainers_are_theirs(tmp_path: Path, remedy: Remedy, edit: Keywords) -> None:
    name = edit.of[0]
    library = pytest.importorskip(edit.libraries[0], reason="the arguments are those of the trainer")
    script = tmp_path / "train.py"
    needed = "".join(f", {word}=2" for word in edit.needs)
    script.write_text(f"import {edit.libraries[0]} as l\nx = l.{name}(max_steps=9{needed})\n")
    change = patch_of([(Chosen(remedy, "2"), None)], script)
    (row,) = [row[1:] for row in change.diff.splitlines()[2:] if row.startswith("+")]
    (made,) = [node for node in ast.walk(ast.parse(row)) if isinstance(node, ast.Call)]
    assert {str(word.arg) for word in made.keywords} <= set(inspect.signature(getattr(library, name)).parameters)
    assert change.by_hand == ()


def test_a_trainer_that_refuses_bf16_without_a_gpu_is_left(tmp_path: Path) -> None:
    """TrainingArguments(bf16=True) raises ValueError there."""
    script = tmp_path / "train.py"
    script.write_text("from transformers import TrainingArguments\na = TrainingArguments('x')\n")
    (bf16,) = [
        remedy for remedy, edit in TRAINERS if remedy.name == "bf16-autocast" and "transformers" in edit.libraries
    ]
    assert patch_of([(Chosen(bf16), None)], script, on_gpu=True).diff
    assert patch_of([(Chosen(bf16), None)], script, on_gpu=False).by_hand == (bf16.line,)


@pytest.mark.parametrize(("remedy", "edit"), TRAINERS, ids=lambda it: getattr(it, "name", ""))
def test_the_arguments_make_a_trainer_here(tmp_path: Path, remedy: Remedy, edit: Keywords) -> None:
    """The call is run on this machine, with what the patch makes of it."""
    if "transformers" not in edit.libraries:
        pytest.skip("a Trainer of Lightning looks for the machine's devices")
    library = pytest.importorskip("transformers", reason="the arguments are those of the trainer")
    on_gpu = torch.cuda.is_available()
    script = tmp_path / "train.py"
    words = dict(edit.words)
    needed = "".join(f", {word}={words.get(word) != 'True' and 1}" for word in edit.needs)
    script.write_text(f"import transformers\nx = transformers.TrainingArguments('x'{needed})\n")
    setting = "default" if remedy.name == "compile" else "2"
    patch = patch_of([(Chosen(remedy, setting), None)], script, on_gpu=on_gpu)
    if not patch.diff:
        assert edit.on_gpu
        return
    (row,) = [row[1:] for row in patch.diff.splitlines()[2:] if row.startswith("+")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that will go
        exec(row, {"transformers": library})


def test_a_class_of_this_name_that_is_not_the_librarys_is_left(tmp_path: Path) -> None:
    (anomaly,) = [remedy for remedy, _ in TRAINERS if remedy.name == "anomaly-off"]
    assert edited(tmp_path, anomaly, "from mine import Trainer\nt = Trainer(detect_anomaly=True)\n") is None
    ours = "from lightning import Trainer\nt = Trainer(detect_anomaly=True)\n"
    assert edited(tmp_path, anomaly, ours) == "t = Trainer(detect_anomaly=False)"


def test_implementations_of_an_optimizer_exclude_each_other(tmp_path: Path) -> None:
    fused, foreach = (remedy for remedy, _ in KEYWORDS if remedy.name in ("fused-optimizer", "foreach-optimizer"))
    assert edited(tmp_path, fused, "AdamW(p, foreach=True)\n") is None
    assert edited(tmp_path, foreach, "AdamW(p, fused=True)\n") is None
    assert edited(tmp_path, foreach, "AdamW(p, fused=False)\n") == "AdamW(p, fused=False, foreach=True)"
    assert fused.one_of == foreach.one_of is not None
