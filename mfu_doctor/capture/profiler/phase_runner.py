"""Runs the schedule: at each step edge it decides the phase of the next step and opens or closes profiler sessions.

All its work happens between steps. The clock is read first at the end of a step and last before the next one, so that no work of
ours is inside a measured step. The second step is recorded early (a look), in case the run ends; its events limit the others.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.schedule import REST_STEPS, Phase, fit, in_turns, phases
from mfu_doctor.capture.loop.stopwatch import Mark, mark
from mfu_doctor.capture.patience import Patience
from mfu_doctor.capture.profiler import limits
from mfu_doctor.capture.profiler.mode_isolation import IsolatedSpan
from mfu_doctor.capture.profiler.python_calls import PythonCalls, Watcher
from mfu_doctor.capture.profiler.recording import Recording, StepRow, events_of_step, other_work
from mfu_doctor.capture.profiler.session import Session, State
from mfu_doctor.capture.profiler.step_marks import StepMarks
from mfu_doctor.facts import Schedule

# Steps that the schedule is fitted before. A trainer that fetches a batch ahead does so in its first step, which then seems to
# take more batches than a step takes; the second step shows how many it really takes.
_FITTED = (1, 2)
# Steps recorded with shapes until one does the work of a timed step. Evaluation in every third step leaves two of them.
_MOST_TRIES = 3


@dataclass(slots=True)
class PhaseRunner:
    """The state of one capture.

    Attributes:
        asked: the schedule asked for.
        notes: where to say what could not be done.
        enter: called with a phase when its first step is about to begin.
        leave: called with a phase when its last step has ended.
        results: looks at the calls of steps whose times are not used.
        available: steps the run has, as far as known; read before the second and the third step.
        rows: whole steps seen so far.
    """

    asked: Schedule
    notes: Notes
    enter: Callable[[Phase], None]
    leave: Callable[[Phase], None]
    results: Watcher | None = None
    available: int | None = None
    plan: Schedule = field(init=False)
    rows: list[StepRow] = field(default_factory=list)
    recordings: dict[str, Recording] = field(default_factory=dict)  # by kind: look, timing, shapes
    phase: Phase = Phase.SKIP
    index: int = 0
    _left: int = 0
    _turn: int = 1
    _fresh: bool = True  # the next step is the first of its phase
    _again: bool = False  # the session of this phase must be opened again
    _tries: int = 0  # steps recorded with shapes that did other work than the timed ones
    _queue: list[tuple[Phase, int]] = field(default_factory=list)
    _running: Mark | None = None
    _current: Recording | None = None
    _calls: PythonCalls = field(init=False)
    _marks: StepMarks = field(default_factory=StepMarks)
    _marked: bool = False  # the running step began with a mark in the trace
    _profiling: bool = True  # False once another profiler was met: the user's always wins

    def __post_init__(self) -> None:
        self._calls = PythonCalls(limits.MOST_CALLS, self.results, self.notes)
        self._arrange(self.asked)

    @property
    def done(self) -> bool:
        """Whether the whole schedule has run."""
        return self.phase is Phase.DONE

    def begin(self, turn: int = 1) -> None:
        """A step begins; the loop has done all of its work after so many of them (see `in_turns`)."""
        if self.done:
            return
        self._turn = turn
        if self.index in _FITTED and self.phase is Phase.SKIP:
            self._arrange(fit(self.asked, self.available), passed=self.index)
        self._open_sessions()
        if self.recording:
            self._marks.begin(self.index)
            self._marked = True
        self._running = mark()

    def end(self, fetches: int, ended: Mark | None = None) -> None:
        """The running step ends, now or at a mark taken earlier."""
        if self._running is None or self.done or self.attached_elsewhere:
            return
        marked, recording = self._marked, self.recording
        row = StepRow(self.phase, self.index, self._running, ended or mark(), fetches, marked)
        self._calls.stop()
        self._close_annotation(whole=recording)
        self._running, self._marked = None, False
        self.rows.append(row)
        if self._current is not None and marked and recording:
            self._current.rows.append(row)
            self._current.end_ns = time.time_ns()
        self.index += 1
        self._left -= 1
        self._after_step()

    def void(self) -> None:
        """The running step turned out to be none."""
        self._calls.stop()
        self._close_annotation(whole=False)
        self._running, self._marked = None, False

    def pause(self) -> None:
        """The loop does something else (validation): close what records, so that it does not fill up."""
        current = self._current
        if current is None or current.session.state is not State.RECORDING:
            return
        if not current.rows:  # nothing of it was recorded: it begins again with the next step
            current.session.stop()
            current.session.discard()
            self._current, self._again = None, True
            return
        self.notes.say(f"the {current.kind} recording ended early, at a validation loop")
        self._left = 0
        self._after_step()

    def restart(self) -> None:
        """Forget everything: the steps seen so far were no steps."""
        self.void()
        if self._current is not None:
            self._current.session.stop()
            self._current = None
        if not self._fresh:
            self.leave(self.phase)
        self.recordings.clear()
        self.rows.clear()
        self.index = self._marks.unused = self._tries = 0
        self._arrange(self.asked)

    def finish(self) -> None:
        """The block is over, or the schedule is: stop whatever still records."""
        current = self._current
        if current is not None and current.session.elsewhere:
            self._leave(current)
        else:
            self.void()
        if self._current is not None:
            self._close(self._current)
        if self.phase not in (Phase.DONE, Phase.SKIP):
            self.leave(self.phase)
        self.phase = Phase.DONE

    @property
    def idle(self) -> bool:
        """Whether the time of the running step is used for nothing: that with shapes, and the step before it."""
        return self.phase in (Phase.REST, Phase.SHAPES)

    @property
    def recorded(self) -> bool:
        """Whether the steps that give the times have been recorded."""
        timing = self.recordings.get("timing")
        return timing is not None and timing is not self._current and timing.usable

    @property
    def attached(self) -> bool:
        """Whether a profiler session is open, recording or not."""
        return self._current is not None and self._current.session.live

    @property
    def attached_elsewhere(self) -> bool:
        """Whether the session that is open is that of another thread."""
        return self._current is not None and self._current.session.elsewhere

    def ask_to_stop(self, reason: str, patience: Patience) -> bool:
        """Let another thread that trains stop its session at the end of its step; returns whether none is open in it."""
        return self._current is None or self._current.session.ask_to_stop(reason, patience)

    @property
    def recording(self) -> bool:
        """Whether a profiler session records right now."""
        return self._current is not None and self._current.session.state is State.RECORDING

    def annotated(self, name: str) -> AbstractContextManager[object]:
        """A span of this name in the trace while a profiler records, else nothing."""
        return IsolatedSpan(name) if self.recording else nullcontext()

    def _arrange(self, schedule: Schedule, passed: int = 0) -> None:
        self.plan = schedule
        self._queue = phases(schedule)
        self.phase, self._left = self._queue.pop(0)
        self._fresh = passed == 0
        self._left -= passed
        if self._left <= 0:
            self._advance()

    def _advance(self) -> None:
        while self._left <= 0 and not self.done:
            self.phase, self._left = self._queue.pop(0) if self._queue else (Phase.DONE, 1)
            self._fresh = True
        self._left = in_turns(self.phase, self._left, self._turn)

    def _open_sessions(self) -> None:
        if self._fresh:
            self.enter(self.phase)
        if self.phase is Phase.WARMUP or (self.phase is Phase.SKIP and self._left == 1 and self.index > 1):
            self._calls.start()
        first, self._fresh, self._again = self._fresh or self._again, False, False
        if self.index == 1 and self._may_look():
            self._open("look", record=True)
        elif self.phase is Phase.WARMUP and first:
            self._open("timing", record=False)
        elif self.phase is Phase.TIMING and first:
            self._open("timing", record=True)
        elif self.phase is Phase.SHAPES and first and not limits.single_session():
            self._open("shapes", record=True)

    def _may_look(self) -> bool:
        """Whether no window follows at once on this, the second step (see REST_STEPS)."""
        plan = self.plan
        apart = plan.skip > 2 or (plan.skip == 2 and plan.timed + plan.warmup > 0)
        return self.phase is Phase.SKIP and apart and not limits.single_session()

    def _open(self, kind: str, *, record: bool) -> None:
        if not self._profiling:
            return
        step = self._size()
        options = limits.options_for(kind, step, self.notes, alone=not self.plan.shapes)
        if record and kind != "look":
            self._left = limits.steps_within_budget(self._left, step, options, self.notes)
        recording = self._current or Recording(Session(options, self._before_yield), kind)
        refused = recording.session.start() if record else recording.session.prepare()
        if refused is not None:
            self._profiling, self._current = False, None
            self.notes.say(
                f"the {kind} recording did not start: {refused}; run mfu-doctor report on the trace of your own profiler"
            )
            return
        recording.start_ns = recording.end_ns = time.time_ns()
        self._current = self.recordings[kind] = recording

    def _size(self) -> limits.StepSize:
        """What is known of a step from those before."""
        plain = [row.seconds for row in self.rows if row.index > 0 and not row.recorded]
        events = self.notes.guarded("the events of a step could not be counted", events_of_step, self.recordings)
        return limits.StepSize(statistics.median(plain) if plain else None, events, self._calls.counted)

    def _close_annotation(self, *, whole: bool) -> None:
        self._marks.end([] if self._current is None else self._current.stumps, whole=whole)

    def _before_yield(self) -> None:
        """Another profiler starts inside this step: end our mark first, it must not end in their session."""
        self._close_annotation(whole=False)

    def _after_step(self) -> None:
        current = self._current
        if current is not None:
            current.session.checkpoint()
            over = self._left <= 0 and self.phase in (Phase.TIMING, Phase.SHAPES)
            if over or current.kind == "look" or not current.session.live:
                self._close(current)
        if self._left <= 0:
            self.leave(self.phase)
            self.notes.guarded("the work of the recorded steps could not be compared", self._check_shapes)
            self._advance()

    def _check_shapes(self) -> None:
        """If the step recorded with shapes did other work than the timed ones, record another one."""
        if self.phase is not Phase.SHAPES:
            return
        why = other_work(self.recordings.get("shapes"), self.recordings.get("timing"), self._turn)
        if why is None:
            return
        self._tries += 1
        last = self._tries >= _MOST_TRIES
        self.notes.say(
            f"the step recorded with shapes did other work than the timed steps (it called {why}): "
            + ("its FLOPs are counted where they agree" if last else "another one was recorded")
        )
        if not last:
            self._queue[:0] = [(Phase.REST, REST_STEPS), (Phase.SHAPES, self.plan.shapes)]

    def _leave(self, recording: Recording) -> None:
        """Its thread is still in its step, whose mark it must end itself: it will stop the session, which is of no use then."""
        session = recording.session
        self._calls.stop()
        self._running = self._current = None
        del self.recordings[recording.kind]
        self.notes.say(f"the {recording.kind} recording did not end: its thread was in a step when the block ended")
        session.leave(lambda: self.notes.guarded("the profiler could not be stopped", session.stop))

    def _close(self, recording: Recording) -> None:
        recording.session.stop()
        self._current = None
        if recording.session.ended_by is not None:
            self._profiling = False
            self.notes.say(f"the {recording.kind} recording ended early: {recording.session.ended_by}")
