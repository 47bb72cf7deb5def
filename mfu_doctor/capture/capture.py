"""One capture from the first hook to the written file: wires the loop's events to the step detector and the phase runner.

Every event enters through the boundary (`Notes.guarded`). After our first failure the capture ends with what it has recorded, and
the training loop continues without a change.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ParamSpec

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.destination import Destination, working_directory
from mfu_doctor.capture.device.current_devices import current_devices
from mfu_doctor.capture.facts.host import Busy, busy_now
from mfu_doctor.capture.facts.loop import LoopFacts
from mfu_doctor.capture.facts.settings import Compiled, allocator_now, compiled_now
from mfu_doctor.capture.loop.hooks import Hooks, exhausted
from mfu_doctor.capture.loop.schedule import Phase
from mfu_doctor.capture.loop.stack_sampler import StackSampler
from mfu_doctor.capture.loop.steps import CUT, Edge, Source, StepDetector
from mfu_doctor.capture.loop.stopwatch import Mark, capturing_graph, mark
from mfu_doctor.capture.profiler.mode_isolation import IsolatedSpan, without_user_modes
from mfu_doctor.capture.profiler.phase_runner import PhaseRunner
from mfu_doctor.facts import DeviceSamples, FrameSample, GcPause, GivenNumbers, Schedule

P = ParamSpec("P")

_MAX_PAUSES = 20_000  # garbage collections kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for."""

    asked: Schedule
    destination: Destination
    site: str
    given: GivenNumbers
    nvml: Any = None
    current_devices: Callable[[], tuple[str, ...] | None] = current_devices


@dataclass(slots=True)
class Seen:
    """What was seen beside the steps themselves."""

    loop: LoopFacts = field(default_factory=LoopFacts)
    pauses: list[GcPause] = field(default_factory=list)
    frames: tuple[FrameSample, ...] = ()
    samples: tuple[DeviceSamples, ...] = ()
    sampler_status: str | None = None
    busy: tuple[Busy | None, Busy | None] = (None, None)
    compiled: Compiled | None = None  # at the start
    allocator: dict[str, int] = field(default_factory=dict)  # at the start


class Capture:
    """Listens to the loop while the block runs; see `Hooks` for who calls what.

    Args:
        request: what the user asked for.
        finish: called once, when the schedule is over or the block ends; writes the file.
    """

    def __init__(self, request: Request, finish: Callable[[Capture], None]) -> None:
        self.request = request
        self.notes = Notes()
        self.seen = Seen()
        self.detector = StepDetector()
        self.phase_runner = PhaseRunner(asked=request.asked, notes=self.notes, enter=self._enter, leave=self._leave)
        self.over = self.abandoned = False
        self.base = working_directory()
        self._finish = finish
        self._hooks: Hooks | None = None
        self._sampler: Any = None
        self._current_devices: tuple[str, ...] | None = None
        self._frames: StackSampler | None = None
        self._held: Mark | None = None
        self._fetching = 0  # depth: a loader may be iterated by another
        self._thread, self._pid = threading.get_ident(), os.getpid()

    def start(self) -> None:
        """Begin to listen."""
        self._safely("the hooks could not be installed", self._install)
        if not self.over:
            self.notes.guarded("the device sampler could not start", self._start_sampler)
            self._safely("the first step could not be prepared", self.phase_runner.begin)

    def stop(self) -> None:
        """The block ended: keep the last step if it is whole, and finish unless the schedule had ended before."""
        if not self.over and os.getpid() == self._pid:
            self._safely("the last step could not be closed", self._close_last_step)
            self._end()

    def abandon(self) -> None:
        """Take the hooks off and forget everything: another recorder takes over."""
        self.over = self.abandoned = True
        self.phase_runner.finish()
        self._take_off()

    # What the loop does: the Listener of `Hooks`.

    def fetch_begins(self, iterator: object) -> None:
        """See `Listener`."""
        self._fetching += 1
        if self._fetching == 1 and not self.over:
            with without_user_modes():
                last = self.notes.guarded("the length of the loader could not be read", exhausted, iterator)
            self._safely("loading a batch could not be recorded", self._fetch_begins, last=bool(last))

    def fetch_ends(self, iterator: object, batch: object, wait_ns: int, *, exhausted: bool) -> None:
        """See `Listener`."""
        self._fetching -= 1
        if self.over:
            return
        if batch is not None:
            plain = not self.phase_runner.recording
            with without_user_modes():
                self.notes.guarded(
                    "a batch could not be described", self.seen.loop.fetched, iterator, batch, wait_ns, plain=plain
                )
        if self._fetching == 0:
            self._safely("loading a batch could not be recorded", self._fetch_ends, exhausted=exhausted)

    def optimizer_stepped(self, optimizer: object) -> None:
        """See `Listener`."""
        if not self.over:
            self._safely("an optimizer step could not be recorded", self._optimizer_stepped, optimizer)

    def autocast_entered(self, region: object) -> None:
        """See `Listener`."""
        if not self.over:
            self.notes.guarded("an autocast region could not be recorded", self.seen.loop.autocast, region)

    def collected(self, start_ns: int, duration_ns: int, generation: int) -> None:
        """See `Listener`."""
        if not self.over and len(self.seen.pauses) < _MAX_PAUSES:
            self.seen.pauses.append(GcPause(start_ns=start_ns, duration_ns=duration_ns, generation=generation))

    @property
    def runs_here(self) -> bool:
        """Whether this is the thread that records: only it may stop the profiler."""
        return threading.get_ident() == self._thread

    def stepped(self) -> None:
        """The user called `step()`."""
        if not self.over and self.runs_here:
            self._safely("a step could not be recorded", self._step)

    def annotated(self, name: str) -> AbstractContextManager[object]:
        """A span of this name in the trace while a profiler records, else nothing."""
        if not self.phase_runner.recording:
            return nullcontext()
        return IsolatedSpan(name)

    # What is done about it.

    def _safely(self, what: str, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        failures = self.notes.failures
        with without_user_modes():
            self.notes.guarded(what, call, *args, **kwargs)
        if self.notes.failures != failures:
            self._end()

    def _install(self) -> None:
        self._thread = threading.get_ident()
        self.seen.compiled, self.seen.allocator = compiled_now(), allocator_now()
        self._hooks = Hooks(self)
        self._hooks.install()

    def _start_sampler(self) -> None:
        from mfu_doctor.capture.device.sampler import DeviceSampler

        self._find_devices()
        self._sampler = DeviceSampler(self.request.nvml, own=lambda: self._current_devices)
        self._sampler.start()

    def _find_devices(self) -> None:
        failures = self.notes.failures
        found = self.notes.guarded("the GPU in use could not be determined", self.request.current_devices)
        self.notes.failures = failures  # the recording does not need it
        self._current_devices = found or self._current_devices

    def _fetch_begins(self, *, last: bool) -> None:
        import torch

        if capturing_graph():
            return
        training = torch.is_grad_enabled()
        edge = self.detector.fetch(training=training, last=last)
        if edge:
            self._act(edge)
        if edge & CUT == Edge.END and not training and not last:
            self.phase_runner.pause()

    def _fetch_ends(self, *, exhausted: bool) -> None:
        edge = self.detector.fetched(exhausted=exhausted)
        if edge:
            self._act(edge)

    def _optimizer_stepped(self, optimizer: object) -> None:
        if not capturing_graph():
            self.seen.loop.stepped(optimizer)
            self._act(self.detector.optimizer(id(optimizer)))

    def _step(self) -> None:
        if not capturing_graph():
            self._act(self.detector.explicit())

    def _act(self, edge: int) -> None:
        if edge & Edge.RESTART:
            self.phase_runner.restart()
        if edge & Edge.VOID:
            self.phase_runner.void()
        if edge & Edge.HOLD:
            self._held = mark()
        if edge & Edge.END:
            self.phase_runner.end(self.detector.ended_fetches)
        if edge & Edge.BEGIN:
            if self._current_devices is None:
                self._find_devices()
            self.phase_runner.available = self._steps_ahead()
            self.phase_runner.begin()
        if self.phase_runner.done:
            self._end()

    def _steps_ahead(self) -> int | None:
        """Steps that one pass over the longest loader makes, as far as it reports it."""
        length, fetches = self.seen.loop.length, self.detector.ended_fetches
        return length // fetches if length and fetches else None

    def _enter(self, phase: Phase) -> None:
        self._find_devices()  # a script may begin to use another one
        if phase is Phase.TIMED:
            self.seen.busy = (busy_now(), None)
        elif phase is Phase.TIMING:
            self._frames = StackSampler(self._thread, self.base)
            self._frames.start()

    def _leave(self, phase: Phase) -> None:
        if phase is Phase.TIMED:
            self.seen.busy = (self.seen.busy[0], busy_now())
        elif phase is Phase.TIMING and self._frames is not None:
            self.seen.frames, self._frames = self._frames.stop(), None

    def _close_last_step(self) -> None:
        if self.detector.complete:
            self.phase_runner.end(self.detector.fetches, self._held)
        elif self.detector.source is Source.BLOCK:
            self.phase_runner.end(0)

    def _end(self) -> None:
        if self.over:
            return
        self.over = True
        with without_user_modes():
            self.notes.guarded("the profiler could not be stopped", self.phase_runner.finish)
            self.notes.guarded("the hooks could not be removed", self._take_off)
            self.notes.guarded("the trace could not be written", self._finish, self)

    def _take_off(self) -> None:
        if self._hooks is not None:
            self._hooks.remove()
        if self._frames is not None:
            self.seen.frames, self._frames = self._frames.stop(), None
        if self._sampler is not None:
            self._find_devices()
            self.seen.samples, status = self._sampler.stop()
            reason = self._sampler.reason
            self.seen.sampler_status = f"{status}: {reason}" if reason else status
            if reason and self._current_devices:
                self.notes.say(f"device samples: {reason}")
            self._sampler = None
