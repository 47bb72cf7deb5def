"""Listens to the loop after a recording, or without one: only the times of its steps are taken, for a few microseconds in each.

Nothing here asks torch for work, and nothing is kept of what the loop passes. A loop that repeats itself is followed by
comparisons alone (see `Cycle`), which cannot fail. Whatever else happens enters through the boundary, and the first failure ends
the listening.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ParamSpec

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.cycle import Cycle, Sign
from mfu_doctor.capture.loop.edges import CUT, Edge, Source
from mfu_doctor.capture.loop.hooks import batches_of, loader_of
from mfu_doctor.capture.loop.identities import weakly
from mfu_doctor.capture.loop.run_clock import RunClock
from mfu_doctor.capture.loop.signs import Signs

P = ParamSpec("P")

_MOST_ITERATORS = 64  # known at a time; a new one for each epoch
_SITELESS = (Source.OPTIMIZER, Source.EXPLICIT)  # then it does not matter where `backward` is called


class Onlooker:
    """A `Listener` of the hooks, for the rest of the block.

    Args:
        signs: tell the steps, as before.
        clock: keeps their times.
        notes: where a failure is said.
        depth: fetches that are under way.
        again: called with an edge when a better source of steps shows that what was recorded was not the training.

    Attributes:
        depth: fetches that are under way.
        over: whether it listens no more.
    """

    def __init__(self, signs: Signs, clock: RunClock, notes: Notes, depth: int, again: Callable[[int], None]) -> None:
        import torch

        self._signs, self._clock, self._notes, self._again = signs, clock, notes, again
        self._cycle = Cycle(signs.detector)
        self._number = signs.known.of
        self._losses = signs.losses
        self._training = torch.is_grad_enabled
        self._iterators: dict[int, tuple[weakref.ref[object] | None, int, int | None]] = {}  # by address
        self._loader = 0  # number of the one that fetches
        self.depth = depth
        self.over = False
        self.left_ns: int | None = None  # when it stopped before the block ended

    def fetch_begins(self, iterator: Any) -> None:
        """See `Listener`."""
        self.depth += 1
        if self.depth > 1:
            return
        now, training, known = time.perf_counter_ns(), self._training(), self._iterators.get(id(iterator))
        if known is not None and (known[0] is None or known[0]() is iterator):
            self._loader, batches = known[1], known[2]
            last = batches is not None and iterator._num_yielded >= batches  # noqa: SLF001 - no public name exists
            edge = self._cycle.answer(Sign.FETCH, (known[1], training, last))
            if edge is not None:
                if edge:
                    self._repeated(edge, now)
                if not training:
                    self._clock.fetched(training=training)
                return
        self._safely(self._fetch_begins, iterator, now, training=training)

    def fetch_ends(self, iterator: object, batch: object, wait_ns: int, *, exhausted: bool) -> None:  # noqa: ARG002
        """See `Listener`."""
        self.depth -= 1
        if self.depth:
            return
        edge = self._cycle.answer(Sign.FETCHED, (self._loader, exhausted))
        if edge is None:
            self._safely(self._fetch_ends, iterator, wait_ns, exhausted=exhausted)
        else:
            self._clock.waited(wait_ns)
            if edge:
                self._repeated(edge)

    def optimizer_stepped(self, optimizer: object) -> None:
        """See `Listener`."""
        edge = self._cycle.answer(Sign.OPTIMIZER, self._number(optimizer))
        if edge is None:
            self._safely(self._optimizer_stepped, optimizer)
        elif edge:
            self._repeated(edge)

    def follows(self) -> bool:
        """See `Listener`."""
        self._safely(self._follow)
        return self._signs.thread.here

    def module_called(self, module: object) -> None:
        """See `Listener`."""
        self._safely(self._module_called, module)

    def backward_begins(self, roots: Sequence[Any], *, differentiable: bool) -> None:  # noqa: ARG002
        """See `Listener`."""
        if self._losses.wanted:
            self._losses.begins(roots)
        if self._cycle.answer(Sign.BACKWARD_BEGINS, None) is None:
            self._safely(self._backward_begins, roots)

    def backward_ended(self, gradients: object, site: Callable[[], tuple[str, int]]) -> None:  # noqa: ARG002
        """See `Listener`."""
        place = None if self._signs.detector.source in _SITELESS else site()
        edge = self._cycle.answer(Sign.BACKWARD, place)
        if edge is None:
            self._safely(self._backward_ended, place)
        elif edge:
            self._repeated(edge)

    def autocast_entered(self, region: object) -> None:
        """See `Listener`."""

    def collected(self, start_ns: int, duration_ns: int, generation: int, *, asked: bool) -> None:
        """See `Listener`."""

    def stepped(self) -> None:
        """The user called `step()`."""
        edge = self._cycle.answer(Sign.EXPLICIT, None)
        if edge is None:
            self._safely(self._stepped)
        else:
            self._repeated(edge)

    def _repeated(self, edge: int, now: int | None = None) -> None:
        if edge == CUT:
            self._clock.cut(now or time.perf_counter_ns())
        elif edge:
            self._act(edge, now)

    def _safely(self, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        if self.over:
            return
        what = "the rest of the run could not be timed"
        left = self._notes.succeeds(what, self._cycle.leave)
        if not (self._notes.succeeds(what, call, *args, **kwargs) and left):
            self._leave()

    def _leave(self) -> None:
        self.over, self.left_ns = True, time.perf_counter_ns()

    def _follow(self) -> None:
        edge = self._signs.follow()
        self._cycle.interrupt()
        if edge is not None:
            self._act(edge)

    def _fetch_begins(self, iterator: Any, now: int, *, training: bool) -> None:
        batches = batches_of(iterator)
        self._loader = self._number(loader_of(iterator))
        if len(self._iterators) >= _MOST_ITERATORS:
            self._iterators.clear()
        self._iterators[id(iterator)] = weakly(iterator), self._loader, batches
        last = batches is not None and iterator._num_yielded >= batches  # noqa: SLF001 - no public name exists
        edge = self._signs.fetch_begins(iterator, training=training, last=last)
        self._act(edge, now)
        self._clock.fetched(training=training)
        self._cycle.learn(Sign.FETCH, (self._loader, training, last), edge)

    def _fetch_ends(self, iterator: object, wait_ns: int, *, exhausted: bool) -> None:
        edge = self._signs.fetch_ends(iterator, exhausted=exhausted)
        self._clock.waited(wait_ns)
        self._act(edge)
        self._cycle.learn(Sign.FETCHED, (self._number(loader_of(iterator)), exhausted), edge)

    def _module_called(self, module: object) -> None:
        self._act(self._signs.module_called(module))
        self._cycle.interrupt()

    def _backward_begins(self, roots: Sequence[Any]) -> None:
        self._signs.backward_begins(roots)
        self._cycle.learn(Sign.BACKWARD_BEGINS, None, Edge.NOTHING)

    def _backward_ended(self, site: Hashable) -> None:
        edge = self._signs.backward_ended(site)
        self._act(edge)
        self._cycle.learn(Sign.BACKWARD, site, edge)

    def _optimizer_stepped(self, optimizer: object) -> None:
        edge = self._signs.optimizer_stepped(optimizer)
        if edge & Edge.MOVED and edge & Edge.RESTART:  # another loop, of other work: its steps say nothing about these
            self._leave()
            self._clock.act(Edge.VOID, time.perf_counter_ns(), plain=True)
            return
        self._act(edge)
        self._cycle.learn(Sign.OPTIMIZER, self._number(optimizer), edge)

    def _stepped(self) -> None:
        edge = self._signs.detector.explicit()
        self._act(edge)
        self._cycle.learn(Sign.EXPLICIT, None, edge)

    def _act(self, edge: int, now: int | None = None) -> None:
        if edge & Edge.RESTART:
            self._again(edge)
        elif edge:
            self._clock.act(edge, time.perf_counter_ns() if now is None else now, plain=True)
