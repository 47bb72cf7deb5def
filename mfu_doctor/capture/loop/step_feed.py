"""What a loop does between two calls of the user's `step()`: how long it waits for batches, and the shapes that it works on.

Shapes are those of the loaders' batches. Where no loader brings one, they are those of what the loss is made of, read off the
first nodes of its graph. Only numbers are kept. Of torch's functions one is watched, and a second where no batch tells.

After a step of a training, which has filled the caches of the core with its tensors, each function and object of ours costs
several times what it costs in a loop of its own: what takes 9 us behind layers of 128 takes 15 to 24 behind those of 1,024.
So in a step only what happens is written down, in one log, by few functions; what it means is worked out for many steps at once.
"""

from __future__ import annotations

import threading
import time
from collections import UserDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from enum import Enum
from typing import Any, NamedTuple
from weakref import ref

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.batches import Batch, Loader, Shape, looked_at, of_tensors, together
from mfu_doctor.capture.loop.fetched_ahead import FetchedAhead
from mfu_doctor.capture.loop.patches import patch

_NODES = 8  # from the loss on
_UNSEEN = "shapes could not be seen"
_MOST = 16  # tensors of a batch that is looked at in passing
_new = tuple.__new__  # what a named tuple's own calls, after a frame of Python


class _Other(Enum):
    """What a fetch brought that is no batch to train on."""

    EVALUATION = 0  # a batch, without gradients
    END = 1
    UNKNOWN = 2  # it failed, or could not be seen


class _Fetch(NamedTuple):
    """The loop has asked a loader for a batch: of tensors alone a plain tuple says what came, see `StepFeed._loading`."""

    waited_ns: int
    loader: Loader
    number: int | None
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
        blind: whether nothing tells the shapes of a step that no batch tells: `look_at_losses` mends that.
        known: parts of steps whose work is known; whoever knows adds them.
        unusual: whether there is another one in the log.
        moved: whether there are batches of another loader in it: if one was left for good must be seen before others are, too.
        fed: whether a loader has ever brought a batch, as far as the log is worked out.
        notes: what could not be seen.
    """

    def __init__(self, notes: Notes) -> None:
        import torch

        self.notes, self.fed, self.told, self.blind = notes, False, False, True
        self.unusual = self.moved = False
        self.thread = threading.get_ident()
        self.log: deque[Any] = deque()
        self.known: set[Hashable] = set()
        self._training, self._unseen = torch.is_grad_enabled, torch._C.DisableTorchFunction  # noqa: SLF001
        self._tensor, self._modes = torch.Tensor, torch._C._len_torch_function_stack  # noqa: SLF001
        self._wrapped: set[type] = set()  # classes of batches that have a dict of their own
        self._removals: list[Callable[[], None]] = []
        self._loader = Loader(ref(self))  # that brought something last: none yet
        self._loaders: dict[int, Loader] = {}
        # Since the last mark, as far as the log is worked out.
        self._ahead: FetchedAhead | None = FetchedAhead()  # None: no batch is fetched before its step
        self._waited_ns, self._evaluates = 0, False
        self._batches: list[Batch] = []
        self._losses: list[Hashable] = []

    def start(self) -> None:
        """Begin to watch."""
        from torch.utils.data.dataloader import _BaseDataLoaderIter

        self._watch(_BaseDataLoaderIter, "__next__", self._loading)

    def look_at_losses(self) -> None:
        """A step has ended that no batch told: from now on its loss does."""
        import torch

        self.blind, self.unusual = False, True
        self._watch(torch.autograd, "_engine_run_backward", self._running_backward)

    def stop(self) -> None:
        """Watch no more; safe to call twice."""
        self.blind = False
        while self._removals:
            self._removals.pop()()

    def ended_steps(self) -> Iterator[tuple[Any, Fed]]:
        """Work out the log: each mark in it, and what the step worked on that ended there."""
        log, self.unusual, self.moved = self.log, False, False
        alike: tuple[Any, ...] = (None, None, None)
        while log:
            entry = log.popleft()
            kind = type(entry)
            if kind is tuple:
                waited_ns, loader, number, shapes, names = entry
                if shapes != alike[0] or names != alike[1]:  # most are like the one before
                    alike = shapes, names, of_tensors(shapes, names)
                self._fetched(waited_ns, loader, number, alike[2])
            elif kind is _Fetch:
                self._fetched(*entry)
            elif kind is _Loss:
                self._losses.append(entry.shapes)
            else:
                yield entry, self._step_ended()

    def forget(self) -> None:
        """What came since the last mark was no step; the log has been worked out."""
        if self._ahead is not None:
            self._ahead.forget()
        self._waited_ns, self._evaluates, self._batches, self._losses = 0, False, [], []

    def _fetched(self, waited_ns: int, loader: Loader, number: int | None, brought: Batch | _Other) -> None:
        ahead = self._ahead
        self._waited_ns += waited_ns
        if brought is _Other.END:
            if ahead is not None:
                ahead.ended(loader)
        elif brought is _Other.EVALUATION:
            self.fed = self._evaluates = True
        elif isinstance(brought, Batch):
            self.fed = True
            stated = loader.samples_of(number)
            if stated is not None and stated != brought.samples:
                brought = _new(Batch, (brought.shapes, stated, brought.tokens))
            if ahead is None or not ahead.fetched(loader, brought):
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
            shapes, samples, tokens = together(batches)
            parts = tuple([batch.shapes for batch in batches])
        if not any(parts):
            shapes = parts = tuple(losses)
        return _new(Fed, (shapes, samples, tokens, waited_ns, evaluates, parts))

    def _watch(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        removal = self.notes.guarded("the loop could not be watched", patch, owner, name, wrap)
        if removal is not None:
            self._removals.append(removal)

    def _loading(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """What is called for each batch. Of plain tensors it writes the shapes down itself: another call would cost as much."""
        here, clock, log, tensor = threading.get_ident, time.perf_counter_ns, self.log, self._tensor
        training, modes, wrapped, fetching = self._training, self._modes, self._wrapped, False

        def __next__(iterator: Any) -> Any:  # noqa: N807 - it stands in for one
            nonlocal fetching
            if fetching or here() != self.thread:
                return original(iterator)
            fetching, began = True, clock()
            try:
                batch = original(iterator)
            except BaseException as error:
                ended = isinstance(error, StopIteration)
                self._note(clock() - began, iterator, _Other.END if ended else _Other.UNKNOWN)
                raise
            finally:
                fetching = False
            waited_ns, loader, kind, parts = clock() - began, self._loader, type(batch), batch
            shapes: list[Shape] = []
            names: Any = ()
            try:
                if kind is not list and kind is not tuple:
                    names = batch if kind is dict else batch.data if kind in wrapped else {}
                    parts = names.values()
                if len(parts) > _MOST or loader.iterator() is not iterator or not training() or modes():
                    parts = ()
                for part in parts:
                    if type(part) is not tensor:
                        break
                    shapes.append(part.shape)
                number = iterator._num_yielded  # noqa: SLF001
            except (AttributeError, RuntimeError):  # a nested tensor has no shape
                shapes = []
            if not shapes or len(shapes) != len(parts):
                self._look(waited_ns, iterator, batch)
                return batch
            kept = tuple(shapes)
            log.append((waited_ns, loader, number, kept, tuple(names)))
            self.told = True
            if kept != loader.shapes:
                loader.shapes, self.unusual = kept, self.unusual or kept not in self.known
            return batch

        return __next__

    def _running_backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        here = threading.get_ident

        def _engine_run_backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.told and here() == self.thread:
                self.notes.guarded(_UNSEEN, self._look_at_loss, tensors)
            return original(tensors, *args, **kwargs)

        return _engine_run_backward

    def _look(self, waited_ns: int, iterator: Any, batch: Any) -> None:
        seen = self.notes.guarded(_UNSEEN, self._look_at, batch) if self._training() else _Other.EVALUATION
        self._note(waited_ns, iterator, _Other.UNKNOWN if seen is None else seen)

    def _note(self, waited_ns: int, iterator: Any, brought: Batch | _Other) -> None:
        log, last = self.log, self._loader
        loader = last if last.iterator() is iterator else self._loader_of(iterator)
        before = log[-1] if log else None
        if brought is _Other.EVALUATION and type(before) is _Fetch and before[1] is loader and before[3] is brought:
            return  # one is enough, and there may be many
        log.append(_Fetch(waited_ns, loader, getattr(iterator, "_num_yielded", None), brought))
        if isinstance(brought, Batch):
            self.told = bool(brought.shapes)
            self.unusual = self.unusual or brought.shapes not in self.known
            self.moved = self.moved or (loader is not last and self._ahead is not None)

    def _loader_of(self, iterator: Any) -> Loader:
        loader = self._loaders.get(id(iterator))
        if loader is None or loader.iterator() is not iterator:
            self._loaders = {key: each for key, each in self._loaders.items() if each.iterator() is not None}
            made = self.notes.guarded(_UNSEEN, Loader.of, iterator)
            loader = self._loaders[id(iterator)] = Loader(ref(iterator)) if made is None else made
        self._loader = loader
        return loader

    def _look_at(self, batch: Any) -> Batch:
        """What it tells of itself; no torch-function mode or class of the user's sees that."""
        if isinstance(batch, UserDict) and type(batch.data) is dict:
            self._wrapped.add(type(batch))
        with self._unseen():
            return looked_at(batch)

    def _look_at_loss(self, roots: Sequence[Any]) -> None:
        with self._unseen():
            shapes = _made_of(roots[0]) if roots else None
        self.log.append(_Loss(shapes))
        self.unusual = self.unusual or shapes not in self.known


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
