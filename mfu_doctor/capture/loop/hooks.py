"""Hooks that report to a listener: optimizer steps, data fetches, autocast regions, garbage collection.

Nothing is kept alive: no tensor, batch or optimizer is stored. All hooks are removed again, class attributes only if they are
still ours. Forked children run the same patches, but there the listener is not called.
"""

from __future__ import annotations

import functools
import gc
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol


class Listener(Protocol):
    """The receiver of the events. Every call comes from the main thread, and none may raise."""

    def fetch_begins(self, iterator: object) -> None:
        """A data loader iterator is about to fetch."""

    def fetch_ends(self, iterator: object, batch: object, wait_ns: int, *, exhausted: bool) -> None:
        """The fetch took `wait_ns`; `batch` is None when the iterator was exhausted or failed."""

    def optimizer_stepped(self, optimizer: object) -> None:
        """An optimizer stepped, or a gradient scaler skipped its step."""

    def autocast_entered(self, region: object) -> None:
        """An autocast region was entered."""

    def collected(self, start_ns: int, duration_ns: int, generation: int) -> None:
        """Python's garbage collector ran (unix nanoseconds); this one may come from any thread."""


class Hooks:
    """Installed hooks; `remove` takes all of them off again.

    Args:
        listener: receives the events; calls come only from the thread that installs, in this process.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._thread, self._pid = threading.get_ident(), os.getpid()
        self._removals: list[Callable[[], None]] = []
        self._optimizer_calls = 0

    def install(self) -> None:
        """Install every hook that the installed torch offers."""
        from torch.amp.autocast_mode import autocast
        from torch.amp.grad_scaler import GradScaler
        from torch.optim.optimizer import register_optimizer_step_post_hook
        from torch.utils.data.dataloader import _BaseDataLoaderIter

        self._removals.append(register_optimizer_step_post_hook(self._after_optimizer).remove)
        self._patch(_BaseDataLoaderIter, "__next__", self._fetching)
        self._patch(GradScaler, "step", self._scaling)
        self._patch(autocast, "__enter__", self._autocasting)
        watch = self._garbage_watch()
        gc.callbacks.append(watch)
        self._removals.append(lambda: gc.callbacks.remove(watch) if watch in gc.callbacks else None)

    def report_to(self, listener: Listener) -> None:
        """From now on another listener receives the events."""
        self._listener = listener

    def remove(self) -> None:
        """Take everything off; safe to call twice."""
        while self._removals:
            self._removals.pop()()

    def _here(self) -> bool:
        return threading.get_ident() == self._thread and os.getpid() == self._pid

    def _patch(self, owner: type, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        original = owner.__dict__.get(name)
        if original is None:
            return
        replacement = functools.wraps(original)(wrap(original))
        setattr(owner, name, replacement)

        def restore() -> None:
            if owner.__dict__.get(name) is replacement:
                setattr(owner, name, original)

        self._removals.append(restore)

    def _after_optimizer(self, optimizer: object, _args: object, _kwargs: object) -> None:
        self._optimizer_calls += 1
        if self._here():
            self._listener.optimizer_stepped(optimizer)

    def _fetching(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __next__(iterator: Any) -> Any:  # noqa: N807 - it stands in for one
            if not self._here():
                return original(iterator)
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

    def _garbage_watch(self) -> Callable[[str, dict[str, int]], None]:
        started = [0, 0]  # unix nanoseconds, perf_counter nanoseconds; the collector never runs inside itself

        def watch(phase: str, info: dict[str, int]) -> None:
            if phase == "start":
                started[:] = time.time_ns(), time.perf_counter_ns()
            elif started[0] and os.getpid() == self._pid:
                self._listener.collected(started[0], time.perf_counter_ns() - started[1], info["generation"])

        return watch


def exhausted(iterator: Any) -> bool:
    """Whether a map-style loader has yielded all its batches, so that this fetch only ends the epoch.

    Raises:
        Exception: whatever the user's sampler or dataset raises when it is asked for its length.
    """
    sampler = getattr(iterator, "_index_sampler", None)
    if getattr(iterator, "_dataset_kind", None) != 0 or sampler is None:  # 0: map-style (torch's _DatasetKind.Map)
        return False
    try:
        return bool(iterator._num_yielded >= len(sampler))  # noqa: SLF001 - no public name exists
    except (TypeError, AttributeError, NotImplementedError):
        return False
