"""What a loop does between two calls of the user's `step()`: how long it waits for batches, and the shapes that it works on.

Shapes are those of the loaders' batches. Where no loader brings one, they are those of what the loss is made of, read off the
first nodes of its graph. Only numbers are kept. Of torch's functions two are watched, for some
microseconds each: a meter's step may cost no more than that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.patches import patch

_DEPTH = 3  # how far into a batch's containers its tensors are looked for
_MOST = 16  # shapes of one batch
_NODES = 8  # from the loss on
_IDS = "input_ids"  # the name that tokenizers give to a matrix of tokens
_UNSEEN = "shapes could not be seen"


class StepFeed:
    """Watches one thread from `start` until `stop`.

    Attributes:
        thread: which one; a forked child has one of the same number, so a meter there stops this and begins anew.
        waited_ns: how long the loop waited for batches.
        shapes: of all that it worked on, in order.
        samples: rows of its batches; None if there was no batch of tensors.
        tokens: of its batches, if they name them; None otherwise.
        fed: whether a loader has ever brought a batch.
        evaluates: whether a batch was loaded without gradients.
        notes: what could not be seen.
    """

    def __init__(self, notes: Notes) -> None:
        import torch

        self.notes, self.fed = notes, False
        self.thread = threading.get_ident()
        self._training, self._unseen = torch.is_grad_enabled, torch._C.DisableTorchFunction  # noqa: SLF001
        self._fetching = False
        self._removals: list[Callable[[], None]] = []
        self.clear()

    def start(self) -> None:
        """Begin to watch."""
        self.notes.guarded("the loop could not be watched", self._install)

    def stop(self) -> None:
        """Watch no more; safe to call twice."""
        while self._removals:
            self._removals.pop()()

    def clear(self) -> None:
        """A step has ended."""
        self.waited_ns, self.evaluates = 0, False
        self.shapes: list[Hashable] = []
        self.samples: int | None = None
        self.tokens: int | None = None

    def _install(self) -> None:
        import torch
        from torch.utils.data.dataloader import _BaseDataLoaderIter

        self._removals.append(patch(_BaseDataLoaderIter, "__next__", self._loading))
        self._removals.append(patch(torch.autograd, "_engine_run_backward", self._running_backward))

    def _loading(self, original: Callable[..., Any]) -> Callable[..., Any]:
        here, clock = threading.get_ident, time.perf_counter_ns

        def __next__(iterator: Any) -> Any:  # noqa: N807 - it stands in for one
            if self._fetching or here() != self.thread:
                return original(iterator)
            self._fetching, began = True, clock()
            try:
                batch = original(iterator)
            finally:
                self._fetching = False
                self.waited_ns += clock() - began
            self._fetched(batch)
            return batch

        return __next__

    def _fetched(self, batch: object) -> None:
        self.fed = True
        if self._training():
            self.notes.succeeds(_UNSEEN, self._look_at_batch, batch)
        else:
            self.evaluates = True

    def _running_backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        here = threading.get_ident

        def _engine_run_backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if self.samples is None and here() == self.thread:
                self.notes.succeeds(_UNSEEN, self._look_at_loss, tensors)
            return original(tensors, *args, **kwargs)

        return _engine_run_backward

    def _look_at_batch(self, batch: Any) -> None:
        found: list[tuple[int, ...]] = []
        with self._unseen():  # no torch-function mode of the user's sees it
            _gather(batch, found, _DEPTH)
            ids = _shape(batch.get(_IDS)) if hasattr(batch, "get") else None
        self.shapes.append(tuple(found))
        if found and found[0]:
            self.samples = (self.samples or 0) + found[0][0]
        if ids is not None and len(ids) == 2:
            self.tokens = (self.tokens or 0) + ids[0] * ids[1]

    def _look_at_loss(self, roots: Sequence[Any]) -> None:
        with self._unseen():
            self.shapes.append(_made_of(roots[0]) if roots else None)


def _gather(value: Any, found: list[tuple[int, ...]], depth: int) -> None:
    shape = _shape(value)
    if shape is not None:
        found.append(shape)
        return
    if depth == 0 or len(found) >= _MOST:
        return
    if isinstance(value, dict) or (hasattr(value, "values") and hasattr(value, "keys")):
        value = list(value.values())
    for part in value[:_MOST] if isinstance(value, list | tuple) else ():
        _gather(part, found, depth - 1)


def _shape(value: Any) -> tuple[int, ...] | None:
    shape = getattr(value, "shape", None)
    return None if shape is None else tuple(shape)


def _made_of(root: Any) -> Hashable:
    """Shapes that the first nodes on the way from a loss work on: scores and labels, and what they were made of."""
    node, found = root.grad_fn, []
    for _ in range(_NODES):
        if node is None:
            break
        told = getattr(node, "_input_metadata", None)  # since torch 2.1
        found.append(tuple(told[0].shape) if told else None)
        following = node.next_functions
        node = following[0][0] if following else None
    return tuple(found)
