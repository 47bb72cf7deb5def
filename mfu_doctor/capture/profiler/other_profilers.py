"""Other profilers in this process: whether one is active, and whether one is about to start.

Two torch profilers in one process crash it (a second start ends the first session, whose stop or export then segfaults). So ours
does not start beside another one, and ends as soon as another one starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from mfu_doctor.capture.loop.living import living
from mfu_doctor.capture.loop.patches import patch

# With this variable set a daemon may start Kineto at any time, which cannot be seen from Python.
_ON_DEMAND_VARIABLE = "KINETO_USE_DAEMON"


def active_profiler() -> str | None:
    """What forbids starting a profiler session now, as a sentence; None if nothing does.

    A user's profiler in its warm-up shows in no flag, so the objects of the process are searched (tens of milliseconds).
    """
    import torch
    import torch.autograd.profiler as autograd_profiler

    if os.environ.get(_ON_DEMAND_VARIABLE):
        return f"{_ON_DEMAND_VARIABLE} is set, so a daemon may start the profiler at any time"
    enabled = getattr(torch._C._autograd, "_profiler_enabled", None)  # noqa: SLF001 - no public name exists
    if enabled is None or enabled() or getattr(autograd_profiler, "_is_profiler_enabled", False):
        return "another torch profiler is recording"
    kind = getattr(torch._C._autograd, "_profiler_type", None)  # noqa: SLF001 - no public name exists
    if kind is not None and getattr(kind(), "name", "NONE") not in ("NONE", "DISABLED"):
        return "another torch profiler (NVTX or ITT ranges) is active"
    found = living(autograd_profiler.profile)
    if any(getattr(one, "entered", False) and one.kineto_results is None for one in found):
        return "another torch profiler is warming up"
    return None


def watch(starting: Callable[[object], None]) -> list[Callable[[], None]]:
    """Call `starting(profiler)` just before any profiler starts a session.

    Returns:
        What takes it off again; call each.
    """

    def announcing(original: Callable[..., Any]) -> Callable[..., Any]:
        def announced(self: object, *args: Any, **kwargs: Any) -> Any:
            starting(self)
            return original(self, *args, **kwargs)

        return announced

    return [patch(owner, name, announcing) for owner, name in _entrances()]


def _entrances() -> Iterator[tuple[type, str]]:
    import torch.autograd.profiler as modern
    import torch.autograd.profiler_legacy as legacy

    for module, owner, name in (
        (modern, "profile", "_prepare_trace"),
        (modern, "emit_itt", "__enter__"),
        (modern, "emit_nvtx", "__enter__"),
        (legacy, "profile", "__enter__"),
    ):
        found = getattr(module, owner, None)
        if isinstance(found, type) and name in found.__dict__:
            yield found, name
