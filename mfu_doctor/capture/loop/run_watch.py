"""Watches one whole block beside its recording: the clock, where the thread is outside of steps, and who listens at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from msgspec.structs import replace

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.edges import Edge
from mfu_doctor.capture.loop.hooks import Hooks
from mfu_doctor.capture.loop.onlooker import Onlooker
from mfu_doctor.capture.loop.run_clock import RunClock
from mfu_doctor.capture.loop.run_sampler import RunSampler
from mfu_doctor.capture.loop.signs import Signs
from mfu_doctor.facts.whole_run import StepCourse, WholeRun

P = ParamSpec("P")


class RunWatch:
    """The account of one block while it grows.

    Args:
        notes: where to say what could not be watched.
        base: directory that places are shown relative to.

    Attributes:
        onlooker: who listens to the loop once the recording is over.
    """

    def __init__(self, notes: Notes, base: Path | None) -> None:
        self.clock = RunClock(time.perf_counter_ns())
        self.onlooker: Onlooker | None = None
        self.notes = notes
        self._base = base
        self._sampler: RunSampler | None = None
        self._entered_ns = self.clock.began_ns  # when the event arrived that is being handled
        self._ended_ns: int | None = None  # when the block ended
        self._left_ns: int | None = None  # when another loop began, or watching failed: what follows is not known

    @property
    def ended(self) -> bool:
        """Whether the block is over."""
        return self._ended_ns is not None

    def start(self) -> None:
        """Begin to look at the calling thread."""
        self._sampler = RunSampler(threading.get_ident(), self._base, self.clock, self._guarded)
        self._sampler.start()

    def enter(self) -> None:
        """The recorder begins to handle an event of the loop."""
        self.clock.own = True
        self._entered_ns = time.perf_counter_ns()

    def leave(self) -> None:
        """It has handled it: the time since is its own."""
        self.clock.worked(self._entered_ns, time.perf_counter_ns())
        self.clock.own = False

    def aside(self, what: str, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do something of ours in the middle of a step: its time is our own, and without it the capture goes on."""
        self.enter()
        self.notes.guarded(what, call, *args, **kwargs)
        self.leave()

    def act(self, edge: int, *, plain: bool) -> None:
        """What the step detector answered to the event; `plain`: a step that begins runs without a profiler."""
        sampler = self._sampler
        if edge & Edge.RESTART and sampler is not None:
            self._guarded(sampler.forget)
        self.clock.act(edge, self._entered_ns, plain=plain)
        if sampler is not None:
            self._guarded(lambda: sampler.edge(edge))

    def pause(self) -> None:
        """Do not look for now: a profiler records the stacks of all threads."""
        if self._sampler is not None:
            self._sampler.stop()

    def resume(self) -> None:
        """Look again, unless the block is over."""
        if self._sampler is not None and not self.ended:
            self._guarded(self._sampler.start)

    def follow(self, thread: int) -> None:
        """The training goes on in another thread."""
        if self._sampler is not None:
            self._sampler.follow(thread)

    def look_on(self, hooks: Hooks, signs: Signs, depth: int, again: Callable[[int], None]) -> None:
        """The recording is over and the block is not: from now on only times are taken (see `Onlooker`)."""
        self.onlooker = Onlooker(signs, self.clock, self.notes, depth, again)
        hooks.report_to(self.onlooker)

    def look_away(self) -> int:
        """The recording begins again; returns how many fetches are under way."""
        onlooker, self.onlooker = self.onlooker, None
        return 0 if onlooker is None else onlooker.depth

    def turn_away(self) -> None:
        """Another loop of other work begins: its steps say nothing about those of this one."""
        self._left_ns = time.perf_counter_ns()
        self.clock.act(Edge.VOID, self._left_ns, plain=True)
        if self.onlooker is not None:
            self.onlooker.over = True

    def end(self) -> None:
        """The block is over."""
        self._ended_ns = time.perf_counter_ns()
        self.clock.close()

    def stop(self) -> None:
        """Look no more, and listen no more."""
        if self.onlooker is not None and self.onlooker.left_ns is not None:
            self._left_ns = self.onlooker.left_ns
        self.onlooker = None
        self.pause()

    def account(self, skipped: int) -> WholeRun:
        """What the block did while it was watched; `skipped` leading steps are its beginning in any case."""
        until = self._left_ns or self._ended_ns or time.perf_counter_ns()
        account = self.clock.account(until, skipped=skipped, ended=self.ended and self._left_ns is None)
        return account if self._sampler is None else replace(account, elsewhere=self._sampler.elsewhere(account))

    def course(self, startup: int) -> StepCourse | None:
        """How steps changed after so many leading ones, which are the run's beginning."""
        return None if self._sampler is None else self._sampler.lines.course(self.clock.times, startup)

    def _guarded(self, call: Callable[[], None]) -> None:
        self.notes.guarded("the run could not be watched", call)
