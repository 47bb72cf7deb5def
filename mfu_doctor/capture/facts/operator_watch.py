"""Looks at every operator of a step whose time is used for nothing: what it reads and what it makes.

No recording does so: `enabled` is off, and only tests switch it on. While any dispatch mode is on, torch takes other formulas
(the backward of `prod`; each version decides anew which ones): a step that is looked at may learn another last bit. And a mode
that the program enters or leaves in such a step may take ours off in place of its own.

A dispatch mode of torch sees them, as torch's own FLOP counter does. It calls the very operator that the program called, and
looks at its result afterwards. It is entered and left between steps, on the thread that trains, and only where little can notice
it: on a CPU, in one process, without compiled functions, and without a mode of the program. What Dynamo meets inside of a mode it
never compiles: the mode is left before anything is compiled.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from mfu_doctor.capture.facts.operator_results import Call, Operator, Results
from mfu_doctor.capture.facts.padded_inputs import PaddedInputs
from mfu_doctor.capture.facts.value_samples import Sampler
from mfu_doctor.capture.facts.zero_factors import is_zero as is_zero_factor
from mfu_doctor.capture.facts.zero_factors import nodes_without_effect
from mfu_doctor.capture.loop.dynamo import before_compiling
from mfu_doctor.capture.loop.outermost import anything_compiled
from mfu_doctor.capture.loop.stack_sampler import UserFiles, own_directory
from mfu_doctor.capture.loop.where import line_of
from mfu_doctor.facts.wasted_work import OperatorFacts

_PRODUCTS = ("aten::mul", "aten::mul_")

Guarded = Callable[..., object]


@dataclass(slots=True)
class OperatorWatch:
    """Watches steps when told to; see the module.

    Attributes:
        base: directory that places are shown relative to.
        enabled: whether a step is ever looked at; see the module for why not.
        told: what was seen of the step that was looked at last; None if none was.
    """

    base: Path | None
    enabled: bool = False
    told: OperatorFacts | None = None
    _samples: Sampler = field(default_factory=Sampler)
    _results: Results | None = None
    _padded: PaddedInputs = field(default_factory=PaddedInputs)
    _look: _Look | None = None
    _mode: Any = None
    _wanted: bool = False
    _thread: int = 0  # that entered the mode
    _removals: list[Callable[[], None]] = field(default_factory=list)

    def begin(self) -> None:
        """The next step is to be looked at, where it may be."""
        self._wanted = self.enabled and can_watch()

    def backward(self, roots: Sequence[Any]) -> None:
        """A backward pass begins from these tensors."""
        if self._wanted and self._look is not None:
            self._look.without_effect |= nodes_without_effect(roots)

    def end(self) -> None:
        """The step has ended."""
        self.rest()
        if self._results is not None:
            self.told = OperatorFacts(results=self._results.told(), padded=self._padded.told())
            self._results.forget()

    def rest(self) -> None:
        """Look at nothing any more: the step has ended, or the recording has within it."""
        self._wanted = False
        if self._mode is not None:
            self._mode.rest()

    def settle(self, guarded: Guarded) -> None:
        """Enter or leave the mode, as was last asked for: nowhere but where no mode is hidden for the moment."""
        if self._wanted and self._mode is None:
            if not can_watch():  # modes were hidden from `begin`
                self._wanted = False
                return
            former = frozenset(self._results.values) if self._results is not None else frozenset()
            self._results = Results(self._samples, former)
            self._look = _Look(self._results, self._padded, self.base)
            self._mode = _mode_of(self._look, guarded)
            self._mode.__enter__()
            self._thread, self._removals = threading.get_ident(), before_compiling(self._leave)
        elif not self._wanted:
            self._leave()

    def _leave(self) -> None:
        self.rest()
        if self._mode is None or threading.get_ident() != self._thread or not _is_innermost(self._mode):
            return
        self._mode.__exit__(None, None, None)
        _in_use.remove(self._mode)
        self._mode = self._look = None
        while self._removals:
            self._removals.pop()()


def can_watch() -> bool:
    """Whether the program has neither a mode nor what would be slow under ours: see the module."""
    import torch

    distributed = sys.modules.get("torch.distributed")
    if anything_compiled() or torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return False
    return not torch._C._len_torch_dispatch_stack() and _functional() is None  # noqa: SLF001 - no public name exists


@dataclass(slots=True)
class _Look:
    """What is done with each operator."""

    results: Results
    padded: PaddedInputs
    base: Path | None
    without_effect: set[int] = field(default_factory=set)  # numbers of nodes whose gradient is multiplied by zero
    _kinds: dict[Any, Operator] = field(default_factory=dict)
    _files: UserFiles = field(init=False)
    _own: str = field(init=False)

    def __post_init__(self) -> None:
        self._files, self._own = UserFiles(self.base), own_directory() + os.sep

    def at(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """An operator was called with these arguments and returned this."""
        import torch

        given = [*_tensors(args), *_tensors(kwargs.values())]
        results = list(_tensors((out,)))
        plain = [one for one in given if _is_plain(one)], [one for one in results if _is_plain(one)]
        if len(plain[0]) + len(plain[1]) < len(given) + len(results):  # what it does with them is not followed
            self.results.used(*plain, has_effect=True)
            return
        if torch._C._current_graph_task_id() >= 0:  # noqa: SLF001 - no public name exists
            self.results.used(given, results, has_effect=_running_node() not in self.without_effect)
            return
        operator, in_forward = self._kind(func), torch.is_grad_enabled()
        if operator.name == "aten::detach" and in_forward:
            self.results.detached(given[0])
        elif not operator.is_view:
            is_zero = operator.name in _PRODUCTS and any(map(is_zero_factor, args))
            self.results.made(Call(operator, given, results, in_forward, is_zero), self._place)
        if in_forward:
            self.padded.read(operator, given, self._place)

    def _kind(self, func: Any) -> Operator:
        if func not in self._kinds:
            schema = func._schema  # noqa: SLF001 - no public name exists
            shared = [returned.alias_info for returned in schema.returns]
            is_view = any(alias is not None and not alias.is_write for alias in shared)
            self._kinds[func] = Operator(schema.name, is_view, schema.is_mutable)
        return self._kinds[func]

    def _place(self) -> str | None:
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way
        line = line_of(frame, self._own, self._files.shown)
        return None if line is None else line.place


def _mode_of(look: _Look, guarded: Guarded) -> Any:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Calls the operators, and looks at them until told to rest."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self._looking, self._process, self._thread = True, os.getpid(), threading.get_ident()

        def rest(self) -> None:
            self._looking = False

        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            if self._looking and _functional() is None:
                self._looking = not look.results.full
                with torch._C._AutoDispatchBelowAutograd():  # noqa: SLF001 - no public name exists
                    guarded(self._look, func, args, kwargs or {}, out)
            return out

        def _look(self, *call: Any) -> None:
            try:
                look.at(*call)
            except BaseException:
                self.rest()  # once is enough
                raise

    _in_use.append(made := Mode())
    return made


def _tensors(values: Any) -> Iterator[Any]:
    import torch

    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _is_plain(tensor: Any) -> bool:
    """Whether it is numbers in memory: no sparse, nested, quantized or meta tensor."""
    import torch

    is_other = tensor.is_nested or tensor.is_quantized or tensor.layout is not torch.strided
    return not is_other and tensor.device.type == "cpu"


def _running_node() -> int | None:
    """The number of the node of autograd that runs."""
    import torch

    node = torch._C._current_autograd_node()  # noqa: SLF001 - no public name exists
    return None if node is None else int(node._sequence_nr())  # noqa: SLF001 - no public name exists


def _functional() -> object | None:
    """The innermost transform of functions (vmap, grad) that runs; None if none does."""
    import torch

    return torch._C._functorch.peek_interpreter_stack()  # noqa: SLF001 - no public name exists


def _is_innermost(mode: Any) -> bool:
    import torch

    depth = torch._C._len_torch_dispatch_stack()  # noqa: SLF001 - no public name exists
    return bool(depth) and torch._C._get_dispatch_stack_at(depth - 1) is mode  # noqa: SLF001 - no public name exists


_in_use: list[Any] = []


def _in_child() -> None:
    """A forked process, a worker of a loader, is not looked at."""
    while _in_use:
        mode = _in_use.pop()
        mode.rest()
        if _is_innermost(mode):
            mode.__exit__(None, None, None)


os.register_at_fork(after_in_child=_in_child)  # cannot be unregistered: it only looks at a list
