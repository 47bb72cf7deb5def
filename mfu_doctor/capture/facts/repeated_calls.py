"""Modules that are called again with the very tensors of a call before, in the step that is recorded with shapes.

A call is the same if its tensors and its parameters are the same objects, not written in between, if neither an optimizer came
in between nor a backward pass that ends the graph, and if it gave the same: a module may compute with more than what it was given
and its parameters (adapters that are switched, weights that stand in for others). Where nothing tells what it gave, a pass with
`create_graph=True` in between makes it another call. The tensors are referred to weakly, until then: one that has died was
another one. A parameter is not, since torch refuses to swap or convert what anybody refers to; calls that get one as an argument
are not compared. Whether the module draws random numbers is seen in the trace.
Nothing is watched once a function is to be compiled: Dynamo would warn of hooks on all modules, and break graphs.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from mfu_doctor.capture.facts.call_result import CallResult, result_of
from mfu_doctor.capture.loop.dynamo import before_compiling, leave_alone
from mfu_doctor.capture.loop.outermost import anything_compiled
from mfu_doctor.facts.wasted_work import RepeatedCall

_WITH_NAMES = 2  # the named arguments and the result
_MOST = 4096  # calls that are looked at, of all modules: a step that generates text has more, and is not worth its slowing down

_States = tuple[tuple[int, int], ...]  # addresses of tensors and their versions
Key = tuple[int, bool, _States, _States]  # address of a module, its mode, what it is given, and its parameters


class _Call(Struct, eq=False):
    """A call of a module, and when it was."""

    name: str
    start_ns: int
    after: int  # differentiated backward passes that had begun before it
    end_ns: int = 0
    is_plain: bool = True  # nothing but these tensors was given
    result: CallResult = field(default_factory=CallResult)
    again: list[_Call] = field(default_factory=list)

    def is_like(self, first: _Call) -> bool:
        """Whether it gave what the first one gave, as far as that is known."""
        differs = self.result.differs_from(first.result)
        return self.after == first.after if differs is None else not differs


class _Known(Struct, frozen=True):
    """A call that may come again, and its module and tensors: an address is used again once its object has died."""

    call: _Call
    objects: tuple[weakref.ref[Any], ...]

    def is_of(self, objects: tuple[Any, ...]) -> bool:
        """Whether the call was of this module with these tensors."""
        return all(known() is now for known, now in zip(self.objects, objects, strict=True))


class RepeatedCalls(Struct):
    """Watches the calls of all modules of one thread while it is on."""

    _known: dict[Key, _Known] = field(default_factory=dict)
    _open: list[_Call | None] = field(default_factory=list)  # the calls that run, outermost first
    _repeated: list[_Call] = field(default_factory=list)
    _removals: list[Callable[[], None]] = field(default_factory=list)
    _left: int = _MOST
    _passes: int = 0  # differentiated backward passes

    def watch(self, guarded: Callable[..., None], thread: int, called: Callable[[Any, tuple[Any, ...]], None]) -> None:
        """Begin to watch this thread; our functions are called through `guarded`, and so is `called` with each call."""
        from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

        if anything_compiled() or self._removals:
            return
        process = os.getpid()  # a forked process has a thread of the same number

        def before(module: Any, args: tuple[Any, ...]) -> None:
            if threading.get_ident() != thread or os.getpid() != process:
                return
            if self._left > 0:
                guarded(called, module, args)
                guarded(self._before, module, args)
            else:
                self._open.append(None)

        def after(_module: Any, args: tuple[Any, ...], *rest: Any) -> None:
            if self._open and threading.get_ident() == thread and os.getpid() == process:
                # after an exception torch leaves both out
                names, output = rest if len(rest) == _WITH_NAMES else (True, None)
                guarded(self._after, args, bool(names), output)

        for ours in (before, after):
            leave_alone(ours, inside=True)
        try:
            handle = register_module_forward_hook(after, with_kwargs=True, always_call=True)
        except TypeError:  # torch before 2.2 does not call it after an exception
            return
        self._removals += (handle.remove, lambda: _forget_hook(handle.id))
        self._removals.append(register_module_forward_pre_hook(before).remove)
        self._removals += before_compiling(self.remove)

    @property
    def watching(self) -> bool:
        """Whether calls are seen: not where something is compiled, nor with torch before 2.2."""
        return bool(self._removals)

    def remove(self) -> None:
        """Watch no more; safe to call twice."""
        while self._removals:
            self._removals.pop()()
        self._open.clear()
        self.forget()

    def forget(self) -> None:
        """What comes now is no repetition: parameters may have changed, or a graph is gone."""
        self._known.clear()

    def differentiated(self) -> None:
        """A backward pass begins that leaves the graph: the program may compute with the gradients, and replace what it likes."""
        self._passes += 1

    def found(self) -> tuple[RepeatedCall, ...]:
        """The calls that were made more than once."""
        found = []
        for first in self._repeated:
            calls = [call for call in (first, *first.again) if call.is_plain and call.is_like(first)]
            if first.is_plain and len(calls) > 1:
                spans = tuple((one.start_ns, one.end_ns) for one in calls)
                compared = all(one.result.is_whole for one in calls)
                found.append(RepeatedCall(module=first.name, spans=spans, compared=compared))
        return tuple(found)

    def _before(self, module: Any, args: tuple[Any, ...]) -> None:
        import torch

        self._open.append(None)
        self._left -= 1
        inside = any(call is not None and call.end_ns < 0 for call in self._open)
        in_backward = torch._C._current_graph_task_id() >= 0  # noqa: SLF001 - no public name exists
        only_tensors = bool(args) and all(isinstance(value, torch.Tensor) for value in args)
        if inside or in_backward or not only_tensors or not all(map(_is_comparable, args)):
            return  # inside of a repeated call everything is repeated; inside of backward it is recomputation
        parameters = tuple(module.parameters())
        objects = (
            module,
            *args,
            *filter(_is_comparable, parameters),
        )  # functional_call puts other tensors in their place
        key = id(module), module.training, _states(args), _states(parameters)
        call = _Call(type(module).__name__, time.time_ns(), self._passes)
        self._open[-1] = call
        known = self._known.get(key)
        if known is None or not known.is_of(objects):
            self._known[key] = _Known(call, tuple(map(weakref.ref, objects)))
            return
        first = known.call
        call.end_ns = -1  # it runs, and is a repetition
        if not first.again:
            self._repeated.append(first)
        first.again.append(call)

    def _after(self, args: tuple[Any, ...], has_names: bool, output: Any) -> None:
        call = self._open.pop() if self._open else None  # another thread may have ended the block
        if call is not None:
            call.end_ns = time.time_ns()
            call.is_plain = not has_names
            call.result = result_of(output, args)


def _is_comparable(tensor: Any) -> bool:
    """Whether a tensor counts its versions, and may be referred to."""
    from torch.nn import Parameter

    return not tensor.is_inference() and not isinstance(tensor, Parameter)


def _states(tensors: tuple[Any, ...]) -> _States:
    return tuple((id(one), -1 if one.is_inference() else one._version) for one in tensors)  # noqa: SLF001 - no public name exists


def _forget_hook(number: int) -> None:
    """Torch keeps a note on a hook with names that has been removed, and warns of it at each `torch.compile` (2.13)."""
    from torch.nn.modules import module

    getattr(module, "_global_forward_hooks_with_kwargs", {}).pop(number, None)
