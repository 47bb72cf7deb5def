"""Keeps Dynamo from compiling our functions: it looks at every Python function that runs inside a compiled one.

It would trace them for nothing, and break its graph at the first call that it does not know; the report would count those breaks.
Hooks on all modules would become a part of the graphs for good, so they go before anything is compiled.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any


def leave_alone(function: Callable[..., Any], *, inside: bool) -> None:
    """Have Dynamo run a function as it is. Dynamo is not imported by this.

    Args:
        function: one of ours.
        inside: whether the functions that it calls are ours too.
    """
    code = getattr(function, "__code__", None)
    frames = _frames()
    if code is None or frames is None:
        return
    if hasattr(frames, "set_code_exec_strategy"):
        action = frames._FrameAction  # noqa: SLF001 - its public name would import Dynamo
        called = action.SKIP if inside else action.DEFAULT
        frames.set_code_exec_strategy(code, frames._FrameExecStrategy(action.SKIP, called))  # noqa: SLF001
    elif hasattr(frames, "skip_code"):  # torch before 2.7
        frames.skip_code(code)


def before_compiling(leave: Callable[[], None]) -> list[Callable[[], None]]:
    """Call this function when the program asks Dynamo to compile something, before it does.

    `torch.compile` asks `torch._dynamo.optimize`, which others call too, also under names that were taken before; but that is
    imported late.

    Returns:
        What takes it off again.
    """
    import torch

    places = ((torch, "compile"), (sys.modules.get("torch._dynamo"), "optimize"))
    return [_leaving(owner, name, leave) for owner, name in places if name in getattr(owner, "__dict__", ())]


def _leaving(owner: Any, name: str, leave: Callable[[], None]) -> Callable[[], None]:
    original = vars(owner)[name]

    @functools.wraps(original)
    def compiling(*args: Any, **kwargs: Any) -> Any:
        leave()
        return original(*args, **kwargs)

    def restore() -> None:
        if vars(owner).get(name) is compiling:
            setattr(owner, name, original)

    for ours in (compiling, leave):
        leave_alone(ours, inside=False)
    setattr(owner, name, compiling)
    return restore


def _frames() -> Any:
    """Torch's C module of Dynamo; None if this torch has none."""
    import torch

    return getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)  # noqa: SLF001 - no public name exists
