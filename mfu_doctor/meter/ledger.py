"""The steps of a training as they are marked, and what they were, worked out together when somebody asks or decides by it.

To mark a step is to write one entry. All else waits: until a reading is looked at, until something happens that did not happen
before, or for some dozens of steps. While FLOPs are to be counted, or a recording is under way, nothing waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.device.usage import memory_peak
from mfu_doctor.capture.loop.forks import Process
from mfu_doctor.capture.loop.step_feed import Fed, StepFeed
from mfu_doctor.capture.profiler.session import live_sessions
from mfu_doctor.capture.profiler.under_way import recording_here, recordings
from mfu_doctor.meter.counting import StepCounter
from mfu_doctor.meter.peak import Machine
from mfu_doctor.meter.reading import Measured, MeterReading
from mfu_doctor.meter.step_work import StepWork
from mfu_doctor.meter.window import Step
from mfu_doctor.units import NS_PER_S

_MOST = 64  # steps that wait: to work out more at once would be felt
_MEMORY_EVERY_NS = NS_PER_S // 2  # to ask the allocator takes longer than all the rest
_FAILED = "a step could not be measured"
_clock = time.perf_counter_ns
_new = tuple.__new__  # what a named tuple's own calls, after a frame of Python


class Ledger:
    """The latest steps of one process; in a forked child it begins anew.

    Args:
        machine: what is stated about the device.
        stated: the work of a step; None: counted.
        tokens: of a step; None: as batches tell.
        window: the latest steps that are kept; of them, those that ran as usual.
        notes: where a failure is said.

    Attributes:
        counter: of FLOPs.
        profiled: whether a session of ours was attached at the end of the last step.
    """

    def __init__(
        self, machine: Machine, stated: StepWork | None, tokens: int | None, window: int, notes: Notes
    ) -> None:
        self._machine, self._stated, self._tokens, self.notes = machine, stated, tokens, notes
        self._steps: deque[Step] = deque()
        self._window = window
        self._step, self._since_ns = -1, 0
        self.profiled = self._recording = False
        self._memory, self._asked_ns = memory_peak(), 0
        self._forks = self._lock_of = Process.forks
        self._lock = threading.RLock()  # a handler of a signal may look at a reading
        self.feed, self.counter = self._begun()

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those of the window."""
        self.work_out()
        return tuple(self._steps)

    @property
    def latest(self) -> StepWork | None:
        """The work of a step that is known last."""
        return self._stated or self.counter.latest

    def mark(self, samples: int | None, tokens: int | None) -> MeterReading:
        """A step has ended: in few calls and with few objects, see `step_feed` for what they cost here."""
        if self._forks != Process.forks:
            self.notes.guarded(_FAILED, self._begin_in_child)
        feed = self.feed
        self._step = step = self._step + 1
        reading = MeterReading(step, None, self, (_clock(), samples, tokens))
        feed.log.append(reading)
        if feed.told:
            feed.told = False
        elif feed.blind:
            feed.look_at_losses()
        self._left -= 1
        if self._left < 0 or (feed.unusual and self._alert) or feed.moved or live_sessions or recordings:
            feed.thread = threading.get_ident()  # who calls this is the one that trains
            self.work_out(reading)
        return reading

    def work_out(self, now: MeterReading | None = None) -> None:
        """Tell all readings what was measured.

        Args:
            now: the step that has just ended, if the next one has not begun.
        """
        if self._lock_of != Process.forks:  # it may have been held where this process was forked
            self._lock, self._lock_of = threading.RLock(), Process.forks
        with self._lock:
            if not self.notes.succeeds(_FAILED, self._work_out, now):
                self._since_ns = 0
                self.notes.guarded(_FAILED, self._give_up)
            pause = self.counter.pause if self._stated is None else _MOST
            self._left, self._alert = _MOST if pause is None else min(pause, _MOST), pause is None

    def reset(self) -> None:
        """What came since the last step was no training."""
        self.work_out()
        self.notes.guarded(_FAILED, self.counter.afresh)
        self._since_ns = time.perf_counter_ns()
        self.feed.forget()

    def recount(self) -> None:
        """Count the FLOPs of a step again."""
        self.work_out()
        self.feed.known.clear()
        self.counter.again()
        self._left = 0

    def stop(self) -> None:
        """Look and count no more."""
        self.feed.stop()
        self.counter.stop()

    def _begun(self) -> tuple[StepFeed, StepCounter]:
        self._left, self._alert = 0, False  # steps that may wait; whether one with unusual shapes may not
        feed = StepFeed(self.notes)
        feed.start()
        return feed, StepCounter(self._machine, self.notes)

    def _begin_in_child(self) -> None:
        """This process was forked: the hooks of the parent do not tell it anything."""
        self.work_out()
        self.feed.stop()
        self._forks, self._since_ns = Process.forks, 0
        self.feed, self.counter = self._begun()

    def _work_out(self, now: MeterReading | None) -> None:
        for reading, fed in self.feed.ended_steps():
            reading.measured = self._measured(reading, fed, is_now=reading is now)

    def _measured(self, reading: MeterReading, fed: Fed, *, is_now: bool) -> Measured:
        counter, work, since = self.counter, self._stated, self._since_ns
        ended_ns, samples, tokens = reading.marked
        # Of a step that waited to be worked out: else it would not have.
        profiled, recording = is_now and bool(live_sessions), is_now and recording_here()
        counted = False
        if work is None and since:
            work = counter.known.get(fed.shapes)
            if work is None or not counter.rests:
                counted = counter.between(fed.shapes, usable=not fed.evaluates, is_now=is_now)
        if work is not None or (counted and fed.shapes in counter.known):
            self.feed.known.update(fed.parts)
        # A session ends in the step after those that it records, and the recording is written in the one in which it ends.
        disturbed = profiled or self.profiled or (self._recording and not recording)
        self.profiled, self._recording = profiled and not counted, recording
        steps, first = self._steps, reading.step - self._window
        while steps and steps[0].number <= first:
            steps.popleft()
        if since and not (counted or disturbed or fed.evaluates):
            tokens = tokens or self._tokens or fed.tokens
            told = ended_ns - since, fed.waited_ns, work, samples or fed.samples, tokens, reading.step
            steps.append(_new(Step, told))
        if ended_ns - self._asked_ns > _MEMORY_EVERY_NS:
            self._memory, self._asked_ns = memory_peak(), ended_ns
        self._since_ns = time.perf_counter_ns() if counted else ended_ns
        took = ended_ns - since if since else None
        latest = self._stated or counter.latest
        return _new(Measured, (counted, self._memory, tuple(self._steps), took, self.feed.fed, latest, counter.reason))

    def _give_up(self) -> None:
        self.feed.log.clear()
        self.counter.drop()
