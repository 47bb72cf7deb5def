"""Fixes as arguments of the trainer that runs the loop: its users have no line for a DataLoader, an optimizer or autocast."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.run import Run

_Spell: TypeAlias = Callable[[re.Match[str]], str]

_AUTOCAST = re.compile(r'with torch\.autocast\("\w+", dtype=torch\.(bfloat16|float16)\):[^\n]*')
_LOADER = re.compile(r"DataLoader\(\.\.\., ([\w=, ]+)\)")
_COMPILE = re.compile(r'model = torch\.compile\(model(?:, mode="([\w-]+)")?\)')
_FUSED_ADAMW = re.compile(r"torch\.optim\.AdamW\(model\.parameters\(\), \.\.\., fused=True\)")
_TF32 = re.compile(r'torch\.set_float32_matmul_precision\("high"\)')
_RECOMPUTE = re.compile(r"x = block\(x\)  # not checkpoint\(block, x\)[^\n]*")
_ANOMALY = re.compile(r"torch\.autograd\.set_detect_anomaly\(False\)[^\n]*")
_BENCHMARK = re.compile(r"torch\.backends\.cudnn\.benchmark = True")
_LARGER = re.compile(
    r"DataLoader\(\.\.\., batch_size=([\w* ]+)\)  # and optimizer\.step\(\) after (?:each batch|(\d+) batches);[^\n]*"
)
_DDP = re.compile(r"DistributedDataParallel\(model, ([\w=, ]+)\)")

# Options that TrainingArguments has under a longer name (transformers 4.36 and later).
_LOADER_OPTIONS = frozenset({"num_workers", "pin_memory", "persistent_workers", "prefetch_factor"})
_DDP_OPTIONS = frozenset({"bucket_cap_mb", "broadcast_buffers", "find_unused_parameters"})


def _training_arguments(options: str) -> str:
    return f"TrainingArguments(..., {options})"


def _trainer(options: str) -> str:
    return f"Trainer(..., {options})"


def _longer(prefix: str, known: frozenset[str]) -> _Spell:
    """Options under a longer name; the line as it was if one of them has none."""

    def spell(found: re.Match[str]) -> str:
        options = found[1].split(", ")
        if any(option.partition("=")[0] not in known for option in options):
            return found[0]
        return _training_arguments(", ".join(f"{prefix}{option}" for option in options))

    return spell


def _accumulating(argument: str, spell: Callable[[str], str]) -> _Spell:
    """Fewer and larger batches: how many are accumulated is an argument of the trainer, and the program has the loader."""
    return lambda found: f"{spell(f'{argument}={found[2] or 1}')}  # and DataLoader(..., batch_size={found[1]})"


def _compiled(found: re.Match[str]) -> str:
    mode = f', torch_compile_mode="{found[1]}"' if found[1] else ""
    return _training_arguments(f"torch_compile=True{mode}")


class _Library(Struct, frozen=True):
    """A library whose trainer runs loops: the frame that a step is in, and how it spells what fixes say."""

    frame: re.Pattern[str]
    spelled: tuple[tuple[re.Pattern[str], _Spell], ...]


_LIBRARIES = (
    _Library(
        re.compile(r"(^|[/\\])transformers[/\\]trainer\.py\(\d+\): (_inner_training_loop|training_step)$"),
        (
            (
                _LARGER,
                lambda found: _training_arguments(
                    f"per_device_train_batch_size={found[1]}, gradient_accumulation_steps={found[2] or 1}"
                ),
            ),
            (_AUTOCAST, lambda found: _training_arguments("bf16=True" if found[1] == "bfloat16" else "fp16=True")),
            (_LOADER, _longer("dataloader_", _LOADER_OPTIONS)),
            (_DDP, _longer("ddp_", _DDP_OPTIONS)),
            (_COMPILE, _compiled),
            (_FUSED_ADAMW, lambda _: _training_arguments('optim="adamw_torch_fused"')),
            (_TF32, lambda _: _training_arguments("tf32=True")),
            (_RECOMPUTE, lambda _: _training_arguments("gradient_checkpointing=False")),
        ),
    ),
    _Library(
        re.compile(r"(^|[/\\])(lightning[/\\]pytorch|pytorch_lightning)[/\\]loops[/\\]\w+\.py\(\d+\): advance$"),
        (
            (_LARGER, _accumulating("accumulate_grad_batches", _trainer)),
            (_AUTOCAST, lambda found: _trainer(f'precision="{"bf16" if found[1] == "bfloat16" else "16"}-mixed"')),
            (_DDP, lambda found: _trainer(f"strategy=DDPStrategy({found[1]})")),
            (_ANOMALY, lambda _: _trainer("detect_anomaly=False")),
            (_BENCHMARK, lambda _: _trainer("benchmark=True")),
        ),
    ),
    _Library(
        re.compile(r"(^|[/\\])accelerate[/\\]accelerator\.py\(\d+\): accumulate$"),
        ((_LARGER, _accumulating("gradient_accumulation_steps", lambda options: f"Accelerator(..., {options})")),),
    ),
)


def for_trainer(run: Run, fix: str) -> str:
    """A fix as the user of a trainer can write it; the same where the loop is the program's own."""
    for library in _LIBRARIES:
        if len(ids_matching(run.trace, library.frame)):
            for pattern, spell in library.spelled:
                fix = pattern.sub(spell, fix)
            return fix
    return fix
