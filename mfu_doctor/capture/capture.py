"""One capture from the first hook to the written file: wires the loop's events to the step detector and the phase runner.

Every event enters through the boundary (`Notes`). A fact that cannot be read costs that fact. After a failure that the steps
depend on, the capture ends with what it has. When the schedule is over, only step times are taken until the block ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.destination import working_directory
from mfu_doctor.capture.facts.loop import LoopFacts
from mfu_doctor.capture.loop.edges import Edge, Source
from mfu_doctor.capture.loop.hooks import Hooks, Listener, exhausted
from mfu_doctor.capture.loop.run_watch import RunWatch
from mfu_doctor.capture.loop.signs import Signs
from mfu_doctor.capture.loop.stopwatch import Mark, capturing_graph, mark
from mfu_doctor.capture.profiler.handover import between_steps
from mfu_doctor.capture.profiler.mode_isolation import without_user_modes
from mfu_doctor.capture.profiler.phase_runner import PhaseRunner
from mfu_doctor.capture.samplers import Samplers
from mfu_doctor.capture.seen import Request, Seen
from mfu_doctor.facts import Facts
from mfu_doctor.facts.whole_run import WholeRun

P = ParamSpec("P")


class Capture:
    """Listens to the loop while the block runs; see `Hooks` for who calls what.

    Args:
        request: what the user asked for.
        finish: writes the file when the schedule is over or the block ends; called again if the block ends later.
        keep: called when a step has ended and the next one has not begun.
    """

    def __init__(self, request: Request, finish: Callable[[Capture], None], keep: Callable[[Capture], None]) -> None:
        self.request = request
        self.notes, self._lock = Notes(), threading.RLock()  # the block may end in one thread while another one trains
        self.signs = Signs(self.notes)
        self.detector = self.signs.detector
        self.seen = Seen(LoopFacts(self.detector.feeding, known=self.signs.known, base=working_directory()))
        self.over = self.abandoned = self._failed = False
        self.watch = RunWatch(self.notes, working_directory())
        self.facts: Facts | None = None  # as written into the file
        self.former: Facts | None = None  # the same of a recording that was not of the training
        self._finish, self._keep = finish, keep
        self._hooks: Hooks | None = None
        samplers = self.samplers = Samplers(request, self.seen, self.watch, self.signs.thread)
        self.phase_runner = PhaseRunner(request.asked, self.notes, samplers.enter, samplers.leave, self.seen.results)
        self._held: Mark | None = None
        self._pid, self._fetching = os.getpid(), 0  # depth of fetches: a loader may be iterated by another

    def start(self) -> None:
        """Begin to listen."""
        self._safely("the hooks could not be installed", self._install)
        if not self.over:
            self.samplers.start()
            self.notes.guarded("the run could not be watched", self.watch.start)
            self._safely("the first step could not be prepared", self.phase_runner.begin)

    def stop(self, *, failed: bool = False) -> None:
        """The block ended: write what is known now, with the last step if it is whole; nothing if it `failed` before a step."""
        if os.getpid() != self._pid:
            return
        runner = self.phase_runner
        if failed and not (self.over or self.former or runner.rows or runner.recording or self.detector.complete):
            self.abandon()
            return
        self.notes.guarded("the run could not be watched", self.watch.end)
        if self.over:
            with without_user_modes():
                self._take_off()
                if self.facts is not None:
                    self.notes.guarded("the times of the whole run could not be written", self._finish, self)
            return
        with between_steps(runner, self._lock, "its block ended in another thread"):
            self._safely("the last step could not be closed", self._close_last_step)
            self._end()

    def abandon(self) -> bool:
        """Another recorder takes over: forget everything, unless another thread is in a step that a profiler records."""
        with between_steps(self.phase_runner, self._lock, "another profile() took over in another thread") as free:
            if free:
                self.over = self.abandoned = True
                self.close()
        return free

    def close(self) -> None:
        """Let go of the profiler and of the loop: also where Ctrl-C came before the end did so."""
        self.notes.guarded("the profiler could not be stopped", self.phase_runner.finish)
        self._take_off()

    def account(self) -> WholeRun:
        """What the block did with its wall time so far."""
        return self.watch.account(self.phase_runner.plan.skip)

    # What the loop does: the Listener of `Hooks`.
    def fetch_begins(self, iterator: object) -> None:
        """See `Listener`."""
        self._fetching += 1
        if self._fetching == 1 and not self.over:
            with without_user_modes():
                last = self.notes.guarded("the length of the loader could not be read", exhausted, iterator)
            self._safely("loading a batch could not be recorded", self._fetch_begins, iterator, last=bool(last))
            self.notes.guarded("the CPU time of a batch could not be read", self.seen.loop.fetching, iterator)

    def fetch_ends(self, iterator: object, batch: object, wait_ns: int, *, exhausted: bool) -> None:
        """See `Listener`."""
        self._fetching -= 1
        if self.over:
            return
        self.samplers.fetched()
        if batch is not None:
            plain, tell = not self.phase_runner.recording, self.seen.loop.fetched
            with without_user_modes():
                self.notes.guarded("a batch could not be described", tell, iterator, batch, wait_ns, plain=plain)
        if self._fetching == 0:
            self.watch.clock.waited(wait_ns)
            self._safely("a batch was not recorded", self._tell, self.signs.fetch_ends, iterator, exhausted=exhausted)

    def optimizer_stepped(self, optimizer: object) -> None:
        """See `Listener`."""
        if not self.over:
            self._safely("an optimizer step could not be recorded", self._optimizer_stepped, optimizer)

    def follows(self) -> bool:
        """See `Listener`."""
        if not self.over:
            self._safely("the thread that trains could not be followed", self._follow)
        return self.signs.thread.here

    def module_called(self, module: object) -> None:
        """See `Listener`."""
        if not self.over:
            self.notes.guarded("the settings could not be read", self.seen.loop.settings.note, "forward")
            self._safely("a call of a module could not be recorded", self._tell, self.signs.module_called, module)

    def backward_begins(self, roots: Sequence[Any], *, differentiable: bool) -> None:
        """See `Listener`."""
        if not self.over:
            self.signs.backward_begins(roots)
            self.notes.guarded("the settings could not be read", self.seen.loop.settings.note, "backward")
            if self.phase_runner.idle:
                with without_user_modes():
                    recorded = self.phase_runner.recording
                    self.watch.aside("a graph was not read", self.seen.backward, roots, recorded, differentiable)

    def backward_ended(self, gradients: object, site: Callable[[], tuple[str, int]]) -> None:
        """See `Listener`."""
        if not self.over:
            self.samplers.differentiated(gradients)
            self._safely("a backward pass could not be recorded", self._tell, self.signs.backward_ended, site())

    def autocast_entered(self, region: object) -> None:
        """See `Listener`."""
        if not self.over:
            self.notes.guarded("an autocast region could not be recorded", self.seen.loop.autocast, region)

    def collected(self, *collection: int, asked: bool) -> None:
        """See `Listener`."""
        if not self.over:
            self.notes.guarded("a collection was not noted", self.seen.collected, *collection, asked=asked)

    @property
    def listener(self) -> Listener | None:
        """Who listens to the loop: this, then the one who only takes times, then nobody."""
        return self.watch.onlooker if self.over else self

    def stepped(self) -> None:
        """The user called `step()`."""
        if not self.signs.thread.here and not self.follows():
            return
        if not self.over:
            self._safely("a step could not be recorded", self._tell, self.detector.explicit)
        elif self.watch.onlooker is not None:
            self.watch.onlooker.stepped()

    def _safely(self, what: str, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        with self._lock:
            if self.over:
                return
            self.watch.enter()
            with without_user_modes():
                self._failed = not self.notes.succeeds(what, call, *args, **kwargs)
            if self._failed:
                self._end()
            self.watch.leave()

    def _install(self) -> None:
        self.notes.guarded("the settings could not be read", self.seen.begins)
        self._hooks = Hooks(self, self.signs.thread)
        self._hooks.install()

    def _follow(self) -> None:
        if self.phase_runner.attached:
            return  # a session belongs to its thread
        edge = self.signs.follow()
        if edge is not None:
            self.watch.follow(self.signs.thread.current)
            self._act(edge)

    def _fetch_begins(self, iterator: object, *, last: bool) -> None:
        import torch

        if capturing_graph():
            return
        training = torch.is_grad_enabled()
        self.watch.clock.fetched(training=training)
        self._act(self.signs.fetch_begins(iterator, training=training, last=last))

    def _tell(self, sign: Callable[P, int], *args: P.args, **kwargs: P.kwargs) -> None:
        if not capturing_graph():
            self._act(sign(*args, **kwargs))

    def _optimizer_stepped(self, optimizer: object) -> None:
        if capturing_graph():
            return
        self.notes.guarded("an optimizer could not be described", self.seen.loop.stepped, optimizer)
        edge = self.signs.optimizer_stepped(optimizer)
        if edge & Edge.MOVED and edge & Edge.RESTART and self.phase_runner.recorded:
            self.seen.loop.stay(self.signs.former)
            self._end()  # this loop's work is another one than that of the former loop, which was recorded
            self.watch.turn_away()
        elif edge & Edge.MOVED:
            self.seen.loop.follow(self.signs.former)
        self._act(edge)
        if self.phase_runner.idle:
            self.notes.guarded("used gradients could not be noted", self.seen.stepped, optimizer)

    def _act(self, edge: int) -> None:
        if not edge or self.over:
            return
        if edge & Edge.RESTART:
            self.phase_runner.restart()
        if edge & Edge.VOID:
            self.phase_runner.void()
        if edge & Edge.HOLD:
            self._held = mark()
        if edge & Edge.END:
            self.phase_runner.end(self.detector.ended_fetches)
            self.notes.guarded("what was seen so far could not be kept", self._keep, self)
        if edge & Edge.PAUSE:
            self.phase_runner.pause()
        if edge & Edge.BEGIN:
            self.samplers.devices.find(again=False)
            ahead, fetches = self.seen.steps_ahead, self.detector.ended_fetches
            self.phase_runner.available = self.notes.guarded("the length of the run is not known", ahead, fetches)
            self.phase_runner.begin(self.detector.steps_of_turn)
        self.watch.act(edge, plain=not (self.phase_runner.attached or self.phase_runner.idle))
        if self.phase_runner.done:
            self._end()

    def _close_last_step(self) -> None:
        if self.detector.complete or self.detector.source is Source.BLOCK:
            self.phase_runner.end(self.detector.fetches, self._held if self.detector.complete else None)

    def _end(self) -> None:
        with self._lock:
            if self.over:
                return
            self.over = True
        later = self._take_off if self.watch.ended or self._failed else self._look_on
        with without_user_modes():
            self.notes.guarded("the profiler could not be stopped", self.phase_runner.finish)
            self.samplers.stop()
            self.notes.guarded("the rest of the run could not be watched", later)
            self.notes.guarded("the trace could not be written", self._finish, self)
            self.notes.guarded("the rest of the run could not be watched", self.samplers.look_on)

    def _look_on(self) -> None:
        if self._hooks is not None:
            self.watch.look_on(self._hooks, self.signs, self._fetching, self._again)

    def _again(self, edge: int) -> None:
        """What was recorded was not the training, which begins now: record again."""
        with self._lock:
            if self.watch.ended or self._hooks is None:
                return
            self._fetching = self.watch.look_away()
            self.former, self.facts, self.over = self.facts, None, False
            self.notes.said.clear()
            self._safely("the training could not be recorded", self._record_again, self._hooks, edge)

    def _record_again(self, hooks: Hooks, edge: int) -> None:
        hooks.report_to(self)
        self.watch.follow(self.signs.thread.current)
        self.samplers.start()
        self._act(edge & (Edge.RESTART | Edge.VOID) if capturing_graph() else edge)

    def _take_off(self) -> None:
        self.samplers.stop()
        self.notes.guarded("the run could not be left alone", self.watch.stop)
        if self._hooks is not None:
            self.notes.guarded("the hooks could not be removed", self._hooks.remove)
