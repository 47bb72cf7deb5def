"""Modules that are called again with the very tensors of a call before, in the step that is recorded with shapes.

A call is the same if its tensors are the same objects, not written in between, and neither a backward pass nor an optimizer came
in between. The tensors are referred to weakly: one that has died was another one. Whether the module draws random numbers is seen
in the trace. Nothing is watched when a function has been compiled: a hook on all modules would make Dynamo warn.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mfu_doctor.capture.loop.dynamo import leave_alone
from mfu_doctor.capture.loop.outermost import anything_compiled
from mfu_doctor.facts import RepeatedCall

_MOST = 4096  # calls that are remembered


@dataclass(slots=True, eq=False)
class _Call:
    """A call of a module: what it was called with, and when."""

    name: str
    training: bool
    inputs: tuple[tuple[weakref.ref[Any], int], ...]  # tensors and how often each had been written
    start_ns: int
    end_ns: int = 0
    again: list[_Call] = field(default_factory=list)

    def is_like(self, training: bool, inputs: list[Any]) -> bool:
        """Whether a call with these tensors computes the same."""
        if training != self.training or len(inputs) != len(self.inputs):
            return False
        pairs = zip(self.inputs, inputs, strict=True)
        return all(version == now._version and now is known() for (known, version), now in pairs)  # noqa: SLF001


@dataclass(slots=True)
class RepeatedCalls:
    """Watches the calls of all modules of one thread while it is on."""

    _known: dict[int, list[_Call]] = field(default_factory=dict)  # by address of the module
    _open: list[_Call | None] = field(default_factory=list)  # the calls that run, outermost first
    _repeated: list[_Call] = field(default_factory=list)
    _removals: list[Callable[[], None]] = field(default_factory=list)

    def watch(self, guarded: Callable[..., None], thread: int) -> None:
        """Begin to watch this thread; our functions are called through `guarded`."""
        from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

        if anything_compiled():
            return

        def before(module: Any, args: tuple[Any, ...]) -> None:
            if threading.get_ident() == thread:
                guarded(self._before, module, args)

        def after(_module: Any, _args: object, _result: object) -> None:
            if threading.get_ident() == thread and self._open:
                self._after()

        for ours in (before, after):
            leave_alone(ours, inside=True)
        try:
            self._removals.append(register_module_forward_hook(after, always_call=True).remove)
        except TypeError:  # torch before 2.2 does not call it after an exception
            return
        self._removals.append(register_module_forward_pre_hook(before).remove)

    def remove(self) -> None:
        """Watch no more; safe to call twice."""
        while self._removals:
            self._removals.pop()()
        self._open.clear()
        self.forget()

    def forget(self) -> None:
        """What comes now is no repetition: parameters may have changed, or a graph is gone."""
        self._known.clear()

    def found(self) -> tuple[RepeatedCall, ...]:
        """The calls that were made more than once."""
        return tuple(
            RepeatedCall(module=first.name, spans=tuple((one.start_ns, one.end_ns) for one in (first, *first.again)))
            for first in self._repeated
        )

    def _before(self, module: Any, args: tuple[Any, ...]) -> None:
        import torch

        self._open.append(None)
        inputs = [value for value in args if isinstance(value, torch.Tensor)]
        inside = any(call is not None and call.end_ns < 0 for call in self._open)
        if inside or not inputs or any(one.is_inference() for one in inputs) or torch._C._current_graph_task_id() >= 0:  # noqa: SLF001
            return  # inside of a repeated call everything is repeated; inside of backward it is recomputation
        mine = self._known.setdefault(id(module), [])
        first = next((call for call in mine if call.is_like(module.training, inputs)), None)
        kept = tuple((weakref.ref(one), one._version) for one in inputs)  # noqa: SLF001 - no public name exists
        call = _Call(type(module).__name__, module.training, kept, time.time_ns())
        self._open[-1] = call
        if first is None:
            if len(mine) < _MOST:
                mine.append(call)
            return
        call.end_ns = -1  # it runs, and is a repetition
        if not first.again:
            self._repeated.append(first)
        first.again.append(call)

    def _after(self) -> None:
        call = self._open.pop()
        if call is not None:
            call.end_ns = time.time_ns()
