"""Listens to the loop after the recording: only the times of its steps are taken, for a few microseconds in each.

Nothing here asks torch for work, and nothing is kept of what the loop passes. The first failure ends the listening.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ParamSpec

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.hooks import exhausted as spent
from mfu_doctor.capture.loop.run_clock import RunClock
from mfu_doctor.capture.loop.signs import Signs
from mfu_doctor.capture.loop.steps import Edge

P = ParamSpec("P")


class Onlooker:
    """A `Listener` of the hooks, for the rest of the block.

    Args:
        signs: tell the steps, as before.
        clock: keeps their times.
        notes: where a failure is said.
        depth: fetches that are under way.

    Attributes:
        over: whether it listens no more.
    """

    def __init__(self, signs: Signs, clock: RunClock, notes: Notes, depth: int) -> None:
        import torch

        self._signs, self._clock, self._notes = signs, clock, notes
        self._depth = depth
        self._training = torch.is_grad_enabled
        self.over = False
        self.left_ns: int | None = None  # when it stopped before the block ended

    def fetch_begins(self, iterator: object) -> None:
        """See `Listener`."""
        self._depth += 1
        if self._depth == 1:
            self._safely(self._fetch_begins, iterator)

    def fetch_ends(self, iterator: object, batch: object, wait_ns: int, *, exhausted: bool) -> None:  # noqa: ARG002
        """See `Listener`."""
        self._depth -= 1
        if self._depth == 0:
            self._safely(self._fetch_ends, iterator, wait_ns, exhausted=exhausted)

    def optimizer_stepped(self, optimizer: object) -> None:
        """See `Listener`."""
        self._safely(self._optimizer_stepped, optimizer)

    def follows(self) -> bool:
        """See `Listener`."""
        self._safely(self._follow)
        return self._signs.thread.here

    def module_called(self, module: object) -> None:
        """See `Listener`."""
        self._safely(self._module_called, module)

    def backward_begins(self) -> None:
        """See `Listener`."""
        self._signs.backward_begins()

    def backward_ended(self, site: tuple[str, int]) -> None:
        """See `Listener`."""
        self._safely(self._backward_ended, site)

    def autocast_entered(self, region: object) -> None:
        """See `Listener`."""

    def collected(self, start_ns: int, duration_ns: int, generation: int) -> None:
        """See `Listener`."""

    def stepped(self) -> None:
        """The user called `step()`."""
        self._safely(self._stepped)

    def _safely(self, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        if self.over:
            return
        failures = self._notes.failures
        self._notes.guarded("the rest of the run could not be timed", call, *args, **kwargs)
        if self._notes.failures != failures:
            self._leave()

    def _leave(self) -> None:
        self.over, self.left_ns = True, time.perf_counter_ns()

    def _follow(self) -> None:
        edge = self._signs.follow()
        if edge is not None:
            self._act(edge)

    def _fetch_begins(self, iterator: object) -> None:
        now, training = time.perf_counter_ns(), self._training()
        self._act(self._signs.fetch_begins(iterator, training=training, last=spent(iterator)), now)
        self._clock.fetched(training=training)

    def _fetch_ends(self, iterator: object, wait_ns: int, *, exhausted: bool) -> None:
        edge = self._signs.fetch_ends(iterator, exhausted=exhausted)
        self._clock.waited(wait_ns)
        self._act(edge)

    def _module_called(self, module: object) -> None:
        self._act(self._signs.module_called(module))

    def _backward_ended(self, site: tuple[str, int]) -> None:
        self._act(self._signs.backward_ended(site))

    def _optimizer_stepped(self, optimizer: object) -> None:
        edge = self._signs.optimizer_stepped(optimizer)
        if edge & Edge.MOVED and edge & Edge.RESTART:  # another loop, of other work: its steps say nothing about these
            self._leave()
            self._clock.act(Edge.VOID, time.perf_counter_ns(), plain=True)
            return
        self._act(edge)

    def _stepped(self) -> None:
        self._act(self._signs.detector.explicit())

    def _act(self, edge: int, now: int | None = None) -> None:
        if edge:
            self._clock.act(edge, time.perf_counter_ns() if now is None else now, plain=True)
