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
from mfu_doctor.capture.loop.steps import StepDetector

P = ParamSpec("P")


class Onlooker:
    """A `Listener` of the hooks, for the rest of the block.

    Args:
        detector: tells the steps, as before.
        clock: keeps their times.
        notes: where a failure is said.
        depth: fetches that are under way.
    """

    def __init__(self, detector: StepDetector, clock: RunClock, notes: Notes, depth: int) -> None:
        import torch

        self._detector, self._clock, self._notes = detector, clock, notes
        self._depth = depth
        self._training = torch.is_grad_enabled
        self._failed = False

    def fetch_begins(self, iterator: object) -> None:
        """See `Listener`."""
        self._depth += 1
        if self._depth == 1:
            self._safely(self._fetch_begins, iterator)

    def fetch_ends(self, iterator: object, batch: object, wait_ns: int, *, exhausted: bool) -> None:  # noqa: ARG002
        """See `Listener`."""
        self._depth -= 1
        if self._depth == 0:
            self._safely(self._fetch_ends, wait_ns, exhausted=exhausted)

    def optimizer_stepped(self, optimizer: object) -> None:
        """See `Listener`."""
        self._safely(self._optimizer_stepped, id(optimizer))

    def autocast_entered(self, region: object) -> None:
        """See `Listener`."""

    def collected(self, start_ns: int, duration_ns: int, generation: int) -> None:
        """See `Listener`."""

    def stepped(self) -> None:
        """The user called `step()`."""
        self._safely(self._stepped)

    def _safely(self, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        if self._failed:
            return
        failures = self._notes.failures
        self._notes.guarded("the rest of the run could not be timed", call, *args, **kwargs)
        self._failed = self._notes.failures != failures

    def _fetch_begins(self, iterator: object) -> None:
        now, training = time.perf_counter_ns(), self._training()
        edge = self._detector.fetch(training=training, last=spent(iterator))
        if edge:
            self._clock.act(edge, now, plain=True)
        self._clock.fetched(training=training)

    def _fetch_ends(self, wait_ns: int, *, exhausted: bool) -> None:
        edge = self._detector.fetched(exhausted=exhausted)
        self._clock.waited(wait_ns)
        if edge:
            self._clock.act(edge, time.perf_counter_ns(), plain=True)

    def _optimizer_stepped(self, key: int) -> None:
        edge = self._detector.optimizer(key)
        if edge:
            self._clock.act(edge, time.perf_counter_ns(), plain=True)

    def _stepped(self) -> None:
        self._clock.act(self._detector.explicit(), time.perf_counter_ns(), plain=True)
