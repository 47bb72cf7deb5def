"""Calls of the module that no other module calls: in generation and inference without a data loader each of them is a step.

A first look at all module calls finds a module that is called twice in this way; then only the `forward` of its class is
watched. Nothing is looked at when a function has been compiled, or once the loop shows any other sign of its steps: a hook on all
modules would make Dynamo warn, and every module call a little slower.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

from mfu_doctor.capture.loop.dynamo import before_compiling, leave_alone
from mfu_doctor.capture.loop.patches import patch


class OutermostCalls:
    """Watches for them until removed.

    Args:
        here: whether this is the thread and the process to watch.
        called: receives the module.

    Attributes:
        watching: whether there is anything to remove.
        in_place: whether a module's class may get another `forward`, which `torch.jit.script` cannot read.
    """

    def __init__(self, here: Callable[[], bool], called: Callable[[object], None]) -> None:
        self._here, self._called = here, called
        self.watching, self.in_place = False, True
        self._depth = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()
        self._removals: list[Callable[[], None]] = []

    def watch(self) -> None:
        """Begin with all module calls, unless something was compiled."""
        from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

        if anything_compiled():
            return
        for ours in (self._before, self._after, self._wrapped):
            leave_alone(ours, inside=False)
        self.watching = True
        try:
            self._removals.append(register_module_forward_hook(self._after, always_call=True).remove)
        except TypeError:  # torch before 2.2 does not call it after an exception
            return
        self._removals.append(register_module_forward_pre_hook(self._before).remove)
        self._removals += before_compiling(self.remove)

    def remove(self) -> None:
        """Watch no more; safe to call twice."""
        self.watching = False
        while self._removals:
            self._removals.pop()()

    def _before(self, module: Any, _args: object) -> None:
        if not self._here():
            return
        self._depth += 1
        if self._depth == 1:
            self._outermost(module)

    def _after(self, _module: Any, _args: object, _result: object) -> None:
        if self._here() and self._depth:
            self._depth -= 1

    def _outermost(self, module: Any) -> None:
        if module in self._seen and self.in_place:
            self._watch_class(type(module))
        self._seen.add(module)
        self._called(module)

    def _watch_class(self, kind: type) -> None:
        owner = next((base for base in kind.__mro__ if "forward" in vars(base)), None)
        if owner is None:
            return
        self.remove()
        self._depth = 0  # this call was seen; its own `forward` was looked up before it could be replaced
        self._removals.append(patch(owner, "forward", self._wrapped))
        self.watching = True

    def _wrapped(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def forward(module: Any, *args: Any, **kwargs: Any) -> Any:
            if self._depth or not self._here():
                return original(module, *args, **kwargs)
            self._depth += 1
            try:
                self._called(module)
                return original(module, *args, **kwargs)
            finally:
                self._depth -= 1

        return forward


def anything_compiled() -> bool:
    """Whether Dynamo has been asked to compile anything in this process, or cannot say."""
    frames = sys.modules.get("torch._dynamo.eval_frame")
    if frames is None:
        return False
    backends = getattr(frames, "cached_backends", None)
    return backends is None or any(backend is not None for backend in backends.values())
