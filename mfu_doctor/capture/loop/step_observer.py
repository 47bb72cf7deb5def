"""Times and losses of a loop's steps, without a profiler and for a few microseconds in each.

The steps are those that a recording finds, because the same hooks and the same detector find them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.hooks import Hooks
from mfu_doctor.capture.loop.onlooker import Onlooker
from mfu_doctor.capture.loop.run_clock import RunClock
from mfu_doctor.capture.loop.signs import Signs


class StepObserver:
    """Observes the loop of the calling thread until stopped.

    Args:
        each: called when a step has ended, with what it took and how long it waited for its batches, in nanoseconds of the
            host's clock. It must not raise.

    Attributes:
        clock: the times of all steps so far.
        losses: holds the loss of a step in which it is wanted; `each` may read it.
        notes: what could not be observed.
    """

    def __init__(self, each: Callable[[int, int], None]) -> None:
        self.clock = RunClock(time.perf_counter_ns())
        self.clock.each = each
        self.notes = Notes()
        self._signs = Signs(self.notes)
        self.losses = self._signs.losses
        onlooker = Onlooker(self._signs, self.clock, self.notes, 0, self._again)
        self._hooks = Hooks(onlooker, self._signs.thread)

    @property
    def source(self) -> str:
        """What the steps are found from, as in `Facts.step_source`."""
        return self._signs.detector.source.value

    def start(self) -> None:
        """Begin."""
        self.notes.guarded("the steps could not be observed", self._hooks.install)
        self.notes.guarded("the losses could not be observed", self.losses.watch)

    def stop(self) -> None:
        """The loop is over: a step that has no end of its own ends here. All hooks are removed; safe to call twice."""
        self.clock.close()
        self.notes.guarded("the hooks could not be removed", self._hooks.remove)
        self.notes.guarded("the hooks could not be removed", self.losses.stop)

    def _again(self, edge: int) -> None:
        """A better source of steps: those seen so far were none."""
        self.clock.act(edge, time.perf_counter_ns(), plain=True)
