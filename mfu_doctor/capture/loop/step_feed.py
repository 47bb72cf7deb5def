"""What a loop does between two calls of the user's `step()`: how long it waits for batches, and the shapes that it works on.

Shapes are those of the loaders' batches. Where no loader brings one, they are those of what the loss is made of, read off the
first nodes of its graph. Only numbers are kept. Of torch's functions two are watched. After a step of a training, which has
filled the caches of the core with its tensors, each function and object of ours costs several times what it costs in a loop of
its own: so there are few.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.fetched_ahead import Batch, FetchedAhead, Shape
from mfu_doctor.capture.loop.patches import patch

_DEPTH = 3  # how far into a batch's containers its tensors are looked for
_MOST = 16  # shapes of one batch
_NODES = 8  # from the loss on
_IDS = "input_ids"  # the name that tokenizers give to a matrix of tokens
_UNSEEN = "shapes could not be seen"
_NOTHING = Batch((), None, None)
_new = tuple.__new__  # what a named tuple's own calls, after a frame of Python


class Fed(NamedTuple):
    """What one step worked on.

    Attributes:
        shapes: of all of it, in order.
        samples: rows of its batches; None if there was no batch of tensors.
        tokens: of its batches, if they name them; None otherwise.
        waited_ns: how long the loop waited for batches in it.
        evaluates: whether a batch was loaded without gradients in it.
    """

    shapes: Hashable
    samples: int | None
    tokens: int | None
    waited_ns: int
    evaluates: bool


class StepFeed:
    """Watches one thread from `start` until `stop`.

    Attributes:
        thread: which one; a forked child has one of the same number, so a meter there stops this and begins anew.
        fed: whether a loader has ever brought a batch.
        notes: what could not be seen.
    """

    def __init__(self, notes: Notes) -> None:
        import torch

        self.notes, self.fed = notes, False
        self.thread = threading.get_ident()
        self._training, self._unseen = torch.is_grad_enabled, torch._C.DisableTorchFunction  # noqa: SLF001
        self._fetching = False
        self._removals: list[Callable[[], None]] = []
        self._ahead: FetchedAhead | None = FetchedAhead()  # None: no batch is fetched before its step
        self._waited_ns, self._evaluates = 0, False  # since the last step
        self._batches: list[Batch] = []
        self._losses: list[Hashable] = []

    def start(self) -> None:
        """Begin to watch."""
        self.notes.guarded("the loop could not be watched", self._install)

    def stop(self) -> None:
        """Watch no more; safe to call twice."""
        while self._removals:
            self._removals.pop()()

    def step_ended(self) -> Fed:
        """A step has ended, and the next one begins: what it worked on."""
        batches, losses, ahead = self._batches, self._losses, self._ahead
        waited_ns, evaluates = self._waited_ns, self._evaluates
        self._waited_ns, self._evaluates, self._batches = 0, False, []
        if losses:
            self._losses = []
        if ahead is not None:
            batches = [*ahead.of_step(), *batches]
            self._ahead = ahead if ahead.depth != 0 else None
        if len(batches) == 1:
            shapes, samples, tokens = batches[0]
        else:
            shapes, samples, tokens = _together(batches)
        return _new(Fed, (shapes or tuple(losses), samples, tokens, waited_ns, evaluates))

    def forget(self) -> None:
        """What came since the last step was none."""
        if self._ahead is not None:
            self._ahead.forget()
        self._waited_ns, self._evaluates, self._batches, self._losses = 0, False, [], []

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
            except StopIteration:
                if self._ahead is not None:
                    self._ahead.ended(iterator)
                raise
            finally:
                self._fetching = False
                self._waited_ns += clock() - began
            self.fed = True
            if self._training():
                self.notes.guarded(_UNSEEN, self._look_at_batch, iterator, batch)
            else:
                self._evaluates = True
            return batch

        return __next__

    def _running_backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        here = threading.get_ident

        def _engine_run_backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if here() == self.thread and not (self._batches and self._batches[-1].samples):
                self.notes.guarded(_UNSEEN, self._look_at_loss, tensors)
            return original(tensors, *args, **kwargs)

        return _engine_run_backward

    def _look_at_batch(self, loader: object, batch: Any) -> None:
        found: list[Shape] = []
        with self._unseen():  # no torch-function mode of the user's sees it
            _gather(batch if isinstance(batch, list | tuple) else (batch,), found, _DEPTH)
            ids = _shape(batch.get(_IDS)) if hasattr(batch, "get") else None
        samples = found[0][0] if found and found[0] else None
        kept = _new(Batch, (tuple(found), samples, ids[0] * ids[1] if ids is not None and len(ids) == 2 else None))
        if self._ahead is None or not self._ahead.fetched(loader, kept):
            self._batches.append(kept)

    def _look_at_loss(self, roots: Sequence[Any]) -> None:
        with self._unseen():
            self._losses.append(_made_of(roots[0]) if roots else None)


def _gather(parts: Sequence[Any], found: list[Shape], depth: int) -> None:
    """The shapes of these and, as deep as that, of what they hold."""
    for part in parts[:_MOST]:
        shape = getattr(part, "shape", None)
        if shape is not None:
            found.append(shape if isinstance(shape, tuple) else tuple(shape))
        elif depth and len(found) < _MOST:
            _gather(_parts(part), found, depth - 1)


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, dict) or (hasattr(value, "values") and hasattr(value, "keys")):
        return list(value.values())
    return value if isinstance(value, list | tuple) else ()


def _shape(value: Any) -> Shape | None:
    shape = getattr(value, "shape", None)
    return None if shape is None else tuple(shape)


def _together(batches: Sequence[Batch]) -> Batch:
    """Several batches, or none, as one."""
    if not batches:
        return _NOTHING
    samples = [batch.samples for batch in batches if batch.samples is not None]
    tokens = [batch.tokens for batch in batches if batch.tokens is not None]
    shapes = tuple(batch.shapes for batch in batches)
    return Batch(shapes, sum(samples) if samples else None, sum(tokens) if tokens else None)


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
