"""The models that train, compiled in place after the first optimizer step; the setting is the mode of torch.compile.

What the program compiles itself is left alone. If compiling fails, so does the program: that is what its line would do.
"""

from __future__ import annotations

from typing import Any

from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.outermost_calls import is_compiled, when_models_are_known
from mfu_doctor.trial.remedies.remedy import Circumstances, Numerics, Remedy
from mfu_doctor.trial.remedies.trainers import training_arguments

_NAME = "compile"


def _why_not(circumstances: Circumstances) -> str | None:
    facts = circumstances.facts
    compiled = facts is not None and facts.compile is not None and facts.compile.compiled_modules
    return "the program compiles its model itself" if compiled else None


def _apply(setting: str | None) -> None:
    def compile_all(models: list[Any]) -> None:
        if any(is_compiled(inner) for model in models for inner in model.modules()):
            return
        for model in models:
            _compile(model, setting or "default")
            took_effect(_NAME)

    when_models_are_known(compile_all)


def _compile(model: Any, mode: str) -> None:
    """In place, as `Module.compile` does it; but that compiles nothing of a class of torch itself, such as nn.Sequential."""
    import torch

    def forward(*args: Any, **kwargs: Any) -> Any:
        return model._call_impl(*args, **kwargs)  # noqa: SLF001 - no public name calls it uncompiled

    model._compiled_call_impl = torch.compile(forward, mode=mode)  # noqa: SLF001 - copies and pickles leave it out


COMPILED_MODEL = Remedy(
    name=_NAME,
    answers=("uncompiled", "host-bound", "ungraphed-steps", "unfused-elementwise"),
    words="the model is compiled (mode {setting}); dropout then draws other random numbers",
    line='model = torch.compile(model, mode="{setting}")',
    numerics=Numerics.ORDER,
    why_not=_why_not,
    apply=_apply,
    settings="default|reduce-overhead|max-autotune|max-autotune-no-cudagraphs",
    setting=lambda _: "default",
    edits=(training_arguments(("torch_compile", "True"), ("torch_compile_mode", '"{setting}"')),),
)
