"""Hooks that report to a listener: optimizer steps, backward passes, data fetches, autocast regions, garbage collection.

Only events of the thread that trains are reported. It is the thread that installs the hooks, until the listener follows a
backward pass of another one. Nothing is kept alive: no tensor, batch or optimizer is stored. All hooks are removed again, class
attributes only if they are still ours. Forked children run the same patches, but there the listener is not called.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from mfu_doctor.capture.loop.dynamo import leave_alone
from mfu_doctor.capture.loop.forks import Process
from mfu_doctor.capture.loop.garbage import garbage_watch
from mfu_doctor.capture.loop.outermost import OutermostCalls
from mfu_doctor.capture.loop.patches import patch
from mfu_doctor.capture.loop.stack_sampler import own_directory
from mfu_doctor.capture.loop.training_thread import TrainingThread

_TORCH = importlib.util.find_spec("torch")
# Directories whose frames are not the program's: ours and torch's.
_INSIDE = tuple(
    f"{directory}{os.sep}"
    for directory in (
        own_directory(),
        Path(_TORCH.origin).resolve().parent if _TORCH is not None and _TORCH.origin is not None else None,
    )
    if directory is not None
)

# Positions among the arguments of the engine, after the tensors: their gradients, retain_graph, create_graph, inputs.
_CREATE_GRAPH, _INPUTS = 2, 3

# Calls of outermost modules that are reported where a loader tells the steps: what holds inside of them is read there.
_CALLS_WITH_LOADER = 16


class Listener(Protocol):
    """The receiver of the events. Every call comes from the thread that trains, and none may raise."""

    def follows(self) -> bool:
        """A backward pass begins in another thread, this one: whether it is the one that trains from now on."""

    def fetch_begins(self, iterator: object) -> None:
        """A data loader iterator is about to fetch."""

    def fetch_ends(self, iterator: object, batch: object, wait_ns: int, *, exhausted: bool) -> None:
        """The fetch took `wait_ns`; `batch` is None when the iterator was exhausted or failed."""

    def optimizer_stepped(self, optimizer: object) -> None:
        """An optimizer stepped, or a gradient scaler skipped its step."""

    def module_called(self, module: object) -> None:
        """A module is called that no other module calls; not reported once anything else was, with a loader only at first."""

    def backward_begins(self, roots: Sequence[Any], *, differentiable: bool) -> None:
        """A backward pass (or `torch.autograd.grad`) begins; from `roots`, if it gives a gradient to all that it reaches.

        Args:
            roots: tensors.
            differentiable: whether it makes a graph of its own and leaves the one that it goes through.
        """

    def backward_ended(self, gradients: object, site: Callable[[], tuple[str, int]]) -> None:
        """It has ended and returns `gradients`; `site` tells the file and line that called it, if asked now."""

    def autocast_entered(self, region: object) -> None:
        """An autocast region was entered."""

    def collected(self, start_ns: int, duration_ns: int, generation: int, *, asked: bool) -> None:
        """Python's garbage collector ran (unix nanoseconds), or it was `asked` to; this may come from any thread."""


class Hooks:
    """Installed hooks; `remove` takes all of them off again.

    Args:
        listener: receives the events; calls come only from the thread that trains, in this process.
        thread: which thread that is; None: this one.
    """

    def __init__(self, listener: Listener, thread: TrainingThread | None = None) -> None:
        self._listener = listener
        self._thread = thread or TrainingThread()
        self._forks = Process.forks
        self._removals: list[Callable[[], None]] = []
        self._optimizer_calls = 0
        self._outermost = OutermostCalls(self._here, self._module_called)
        self._fetches, self._calls_left = False, _CALLS_WITH_LOADER
        self._backward_depth = 0  # a checkpointed function runs a backward pass inside another one

    def install(self) -> None:
        """Install every hook that the installed torch offers."""
        import torch
        from torch.amp.autocast_mode import autocast
        from torch.amp.grad_scaler import GradScaler
        from torch.optim.optimizer import register_optimizer_step_post_hook
        from torch.utils.data.dataloader import _BaseDataLoaderIter

        for ours in (
            self._here,
            self._trains_here,
            _roots,
            _creates_graph,
            _caller_outside_torch,
            self._outermost.remove,
        ):
            leave_alone(ours, inside=True)
        leave_alone(self._after_optimizer, inside=False)
        self.report_to(self._listener)
        self._removals.append(register_optimizer_step_post_hook(self._after_optimizer).remove)
        self._patched(torch.autograd, "_engine_run_backward", self._running_backward)
        self._patched(_BaseDataLoaderIter, "__next__", self._fetching)
        self._patched(GradScaler, "step", self._scaling)
        self._patched(autocast, "__enter__", self._autocasting)
        watch = garbage_watch(lambda: self._listener.collected)
        gc.callbacks.append(watch)
        self._removals.append(lambda: gc.callbacks.remove(watch) if watch in gc.callbacks else None)
        self._removals.append(self._outermost.remove)
        self._outermost.watch()

    def report_to(self, listener: Listener) -> None:
        """From now on this listener receives the events."""
        for ours in _methods(listener):
            leave_alone(ours, inside=True)
        self._listener = listener

    def remove(self) -> None:
        """Take everything off; safe to call twice."""
        while self._removals:
            self._removals.pop()()

    def _here(self) -> bool:
        return threading.get_ident() == self._thread.current and Process.forks == self._forks

    def _trains_here(self) -> bool:
        if self._here():
            return True
        if Process.forks != self._forks or not self._listener.follows():
            return False
        self._backward_depth = 0
        return self._here()

    def _module_called(self, module: object) -> None:
        self._listener.module_called(module)
        if self._fetches:
            self._calls_left -= 1
            if not self._calls_left:
                self._outermost.remove()

    def _patched(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self._removals.append(patch(owner, name, wrap))

    def _after_optimizer(self, optimizer: object, _args: object, _kwargs: object) -> None:
        self._optimizer_calls += 1
        if self._here():
            if self._outermost.watching:
                self._outermost.remove()
            self._listener.optimizer_stepped(optimizer)

    def _running_backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Torch's own entry to the autograd engine: `backward()` and `torch.autograd.grad` both call it."""

        def _engine_run_backward(*args: Any, **kwargs: Any) -> Any:
            if not self._trains_here() or self._backward_depth:
                return original(*args, **kwargs)
            if self._outermost.watching:
                self._outermost.remove()
            self._listener.backward_begins(_roots(*args, **kwargs), differentiable=_creates_graph(*args, **kwargs))
            self._backward_depth += 1
            try:
                result = original(*args, **kwargs)
            finally:
                self._backward_depth -= 1
            if self._here():
                self._listener.backward_ended(result, _caller_outside_torch)
            return result

        return _engine_run_backward

    def _fetching(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __next__(iterator: Any) -> Any:  # noqa: N807 - it stands in for one
            if not self._here():
                return original(iterator)
            self._fetches, self._outermost.in_place = True, False
            self._listener.fetch_begins(iterator)
            start, batch, exhausted = time.perf_counter_ns(), None, False
            try:
                batch = original(iterator)
            except StopIteration:
                exhausted = True
                raise
            finally:
                wait_ns = time.perf_counter_ns() - start
                self._listener.fetch_ends(iterator, batch, wait_ns, exhausted=exhausted)
            return batch

        return __next__

    def _scaling(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A scaler that finds inf or nan skips the optimizer's step, and with it our hook; the loop still made a step."""

        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            before = self._optimizer_calls
            result = original(scaler, optimizer, *args, **kwargs)
            if self._optimizer_calls == before and self._here():
                self._listener.optimizer_stepped(optimizer)
            return result

        return step

    def _autocasting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __enter__(region: Any) -> Any:  # noqa: N807 - it stands in for one
            if self._here():
                self._listener.autocast_entered(region)
            return original(region)

        return __enter__


def _methods(listener: Listener) -> list[Callable[..., Any]]:
    """What we call of a listener."""
    return [getattr(listener, name) for name in vars(Listener) if callable(getattr(Listener, name)) and name[0] != "_"]


def _roots(tensors: Sequence[Any], *args: Any, **kwargs: Any) -> Sequence[Any]:
    """What a pass begins from that gives a gradient to every parameter; none for one that is asked for some gradients."""
    inputs = args[_INPUTS] if len(args) > _INPUTS else kwargs.get("inputs")
    return tensors if kwargs.get("accumulate_grad") and not inputs else ()


def _creates_graph(_tensors: Sequence[Any], *args: Any, **kwargs: Any) -> bool:
    return bool(args[_CREATE_GRAPH] if len(args) > _CREATE_GRAPH else kwargs.get("create_graph"))


def not_the_programs(file: str) -> bool:
    """Whether a source file is ours or torch's."""
    return file.startswith(_INSIDE)


def _caller_outside_torch() -> tuple[str, int]:
    """File and line of the program, or of its library, that called into torch."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way
    while frame is not None and frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_lineno) if frame is not None else ("", 0)


def loader_of(iterator: Any) -> object:
    """What stands for the loader of an iterator: its sampler of batches, which all epochs share, else the iterator itself."""
    sampler = getattr(iterator, "_index_sampler", None)
    return iterator if sampler is None else sampler


def exhausted(iterator: Any) -> bool:
    """Whether a map-style loader has yielded all its batches, so that this fetch only ends the epoch.

    Raises:
        Exception: whatever the user's sampler or dataset raises when it is asked for its length.
    """
    batches = batches_of(iterator)
    return batches is not None and bool(iterator._num_yielded >= batches)  # noqa: SLF001 - no public name exists


def batches_of(iterator: Any) -> int | None:
    """How many batches a map-style loader yields in all; None if it does not tell.

    Raises:
        Exception: whatever the user's sampler or dataset raises when it is asked for its length.
    """
    sampler = getattr(iterator, "_index_sampler", None)
    if getattr(iterator, "_dataset_kind", None) != 0 or sampler is None:  # 0: map-style (torch's _DatasetKind.Map)
        return None
    import torch

    try:
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - a length may be that of a tensor: no mode sees that we ask
            return len(sampler) if isinstance(iterator._num_yielded, int) else None  # noqa: SLF001 - no public name exists
    except (TypeError, AttributeError, NotImplementedError):
        return None
