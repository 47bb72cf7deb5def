"""The garbage collector runs more rarely: after so many new objects. A program that sets the threshold keeps its own."""

from __future__ import annotations

import gc

from mfu_doctor.trial.remedies import whether
from mfu_doctor.trial.remedies.effects import takes_effect_while
from mfu_doctor.trial.remedies.remedy import COUNT, AfterImports, Numerics, Remedy

_NAME = "gc-threshold"
_MANY = "50000"  # objects; Python's own is 700 to 2000


def _apply(setting: str | None) -> None:
    objects = int(setting or _MANY)
    gc.set_threshold(objects, *gc.get_threshold()[1:])
    takes_effect_while(_NAME, lambda: gc.get_threshold()[0] == objects)


GC_THRESHOLD = Remedy(
    name=_NAME,
    answers=("gc-pause",),
    words="the garbage collector runs after {setting} new objects",
    line="gc.set_threshold({setting}, *gc.get_threshold()[1:])",
    numerics=Numerics.SAME,
    why_not=whether.always,
    apply=_apply,
    settings=COUNT,
    setting=lambda _: _MANY,
    edits=(AfterImports(("gc.set_threshold({setting}, *gc.get_threshold()[1:])",), ("gc",)),),
)
