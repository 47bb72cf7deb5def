"""What a loop does between two calls of the user's `step()`: how long it waits for batches, and the shapes that it works on.

Shapes are those of the loaders' batches. Where no loader brings one, they are those of what the loss is made of, read off the
first nodes of its graph. Only numbers are kept. Of torch's functions two are watched.

After a step of a training, which has filled the caches of the core with its tensors, each function and object of ours costs
several times what it costs in a loop of its own. So in a step only what happens is written down, in one log, and what it means is
worked out for many steps at once.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from enum import Enum
from typing import Any, NamedTuple

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.fetched_ahead import Batch, FetchedAhead, Loader, Shape
from mfu_doctor.capture.loop.patches import patch

_DEPTH = 3  # how far into a batch's containers its tensors are looked for
_MOST = 16  # shapes of one batch
_NODES = 8  # from the loss on
_SEQUENCE = (list, tuple)
_IDS = "input_ids"  # the name that tokenizers give to a matrix of tokens
_UNSEEN = "shapes could not be seen"
_NOTHING = Batch((), None, None)
_new = tuple.__new__  # what a named tuple's own calls, after a frame of Python


class _Other(Enum):
    """What a fetch brought that is no batch to train on."""

    EVALUATION = 0  # a batch, without gradients
    END = 1
    UNKNOWN = 2  # it failed, or could not be seen


class _Fetch(NamedTuple):
    """The loop has asked a loader for a batch."""

    waited_ns: int
    loader: Loader
    brought: Batch | _Other


class _Loss(NamedTuple):
    """A backward pass has begun, and no batch tells its shapes."""

    shapes: Hashable


class Fed(NamedTuple):
    """What one step worked on.

    Attributes:
        shapes: of all of it, in order.
        samples: rows of its batches; None if there was no batch of tensors.
        tokens: of its batches, if they name them; None otherwise.
        waited_ns: how long the loop waited for batches in it.
        evaluates: whether a batch was loaded without gradients in it.
        parts: the shapes of each batch, or of what each loss was made of.
    """

    shapes: Hashable
    samples: int | None
    tokens: int | None
    waited_ns: int
    evaluates: bool
    parts: tuple[Hashable, ...]


class StepFeed:
    """Watches one thread from `start` until `stop`.

    Attributes:
        thread: which one; a forked child has one of the same number, so a meter there stops this and begins anew.
        log: what happened, in order; who knows where steps end adds a mark there, of any other type.
        told: whether a batch told the shapes of this step; who adds a mark resets it.
        known: parts of steps whose work is known; whoever knows adds them.
        unusual: whether there is another one in the log.
        moved: whether there are batches of another loader in it: if one was left for good must be seen before others are, too.
        fed: whether a loader has ever brought a batch, as far as the log is worked out.
        notes: what could not be seen.
    """

    def __init__(self, notes: Notes) -> None:
        import torch

        self.notes, self.fed, self.told = notes, False, False
        self.unusual = self.moved = False
        self.thread = threading.get_ident()
        self.log: deque[Any] = deque()
        self.known: set[Hashable] = set()
        self._training, self._unseen = torch.is_grad_enabled, torch._C.DisableTorchFunction  # noqa: SLF001
        self._tensor, self._modes = torch.Tensor, torch._C._len_torch_function_stack  # noqa: SLF001
        self._fetching = False
        self._removals: list[Callable[[], None]] = []
        self._last = _Fetch(0, weakref.ref(self), _Other.UNKNOWN)  # of no loader
        # Since the last mark, as far as the log is worked out.
        self._ahead: FetchedAhead | None = FetchedAhead()  # None: no batch is fetched before its step
        self._waited_ns, self._evaluates = 0, False
        self._batches: list[Batch] = []
        self._losses: list[Hashable] = []

    def start(self) -> None:
        """Begin to watch."""
        self.notes.guarded("the loop could not be watched", self._install)

    def stop(self) -> None:
        """Watch no more; safe to call twice."""
        while self._removals:
            self._removals.pop()()

    def ended_steps(self) -> Iterator[tuple[Any, Fed]]:
        """Work out the log: each mark in it, and what the step worked on that ended there."""
        log, self.unusual, self.moved = self.log, False, False
        while log:
            entry = log.popleft()
            if isinstance(entry, _Fetch):
                self._fetched(entry)
            elif isinstance(entry, _Loss):
                self._losses.append(entry.shapes)
            else:
                yield entry, self._step_ended()

    def forget(self) -> None:
        """What came since the last mark was no step; the log has been worked out."""
        if self._ahead is not None:
            self._ahead.forget()
        self._waited_ns, self._evaluates, self._batches, self._losses = 0, False, [], []

    def _fetched(self, fetch: _Fetch) -> None:
        brought, ahead = fetch.brought, self._ahead
        self._waited_ns += fetch.waited_ns
        if brought is _Other.END:
            if ahead is not None:
                ahead.ended(fetch.loader)
        elif brought is _Other.EVALUATION:
            self.fed = self._evaluates = True
        elif isinstance(brought, Batch):
            self.fed = True
            if ahead is None or not ahead.fetched(fetch.loader, brought):
                self._batches.append(brought)

    def _step_ended(self) -> Fed:
        batches, losses, ahead = self._batches, self._losses, self._ahead
        waited_ns, evaluates = self._waited_ns, self._evaluates
        self._waited_ns, self._evaluates, self._batches, self._losses = 0, False, [], []
        if ahead is not None:
            batches = [*ahead.of_step(), *batches]
            self._ahead = ahead if ahead.depth != 0 else None
        if len(batches) == 1:
            shapes, samples, tokens = batches[0]
            parts: tuple[Hashable, ...] = (shapes,)
        else:
            shapes, samples, tokens = _together(batches)
            parts = tuple(batch.shapes for batch in batches)
        if not shapes:
            shapes = parts = tuple(losses)
        return _new(Fed, (shapes, samples, tokens, waited_ns, evaluates, parts))

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
            except BaseException as error:
                ended = isinstance(error, StopIteration)
                self._note(clock() - began, iterator, _Other.END if ended else _Other.UNKNOWN)
                raise
            finally:
                self._fetching = False
            waited_ns = clock() - began
            seen = self.notes.guarded(_UNSEEN, self._look_at, batch) if self._training() else _Other.EVALUATION
            self._note(waited_ns, iterator, _Other.UNKNOWN if seen is None else seen)
            return batch

        return __next__

    def _running_backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        here = threading.get_ident

        def _engine_run_backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.told and here() == self.thread:
                self.notes.guarded(_UNSEEN, self._look_at_loss, tensors)
            return original(tensors, *args, **kwargs)

        return _engine_run_backward

    def _note(self, waited_ns: int, iterator: Any, brought: Batch | _Other) -> None:
        log, loader, last = self.log, weakref.ref(iterator), self._last
        self._last = fetch = _new(_Fetch, (waited_ns, loader, brought))
        if brought is _Other.EVALUATION and log and log[-1] is last and last.brought is brought:
            return  # one is enough, and there may be many
        log.append(fetch)
        if brought.__class__ is Batch:
            self.told = bool(brought.samples)
            self.unusual = self.unusual or brought.shapes not in self.known
            self.moved = self.moved or (loader is not last.loader and self._ahead is not None)

    def _look_at(self, batch: Any) -> Batch:
        """What is kept of a batch; no torch-function mode or class of the user's sees that."""
        parts, tensor = batch if isinstance(batch, _SEQUENCE) else _parts(batch) or (batch,), self._tensor
        if not self._modes():
            shapes = tuple([part.shape for part in parts if part.__class__ is tensor])
            if len(shapes) == len(parts) <= _MOST:
                return _kept(batch, shapes)
        with self._unseen():
            found: list[Shape] = []
            _gather(parts, found, _DEPTH)
            return _kept(batch, tuple(found))

    def _look_at_loss(self, roots: Sequence[Any]) -> None:
        with self._unseen():
            shapes = _made_of(roots[0]) if roots else None
        self.log.append(_Loss(shapes))
        self.unusual = self.unusual or shapes not in self.known


def _kept(batch: Any, shapes: tuple[Shape, ...]) -> Batch:
    """A batch whose tensors have these shapes; raises if one is none, as a class of the program's may have it.

    This is guarded, and `_note` is not.
    """
    hash(shapes)
    ids = None if isinstance(batch, _SEQUENCE) or not hasattr(batch, "get") else _shape(batch.get(_IDS))
    samples = int(shapes[0][0]) if shapes and shapes[0] else None
    return _new(Batch, (shapes, samples, ids[0] * ids[1] if ids is not None and len(ids) == 2 else None))


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
