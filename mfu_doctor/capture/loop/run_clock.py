"""Where the wall time of a whole block goes: steps, what lies before, between and after them, and the recorder's own work.

A pure state machine beside the step detector, fed with the same edges. It reads no clock and holds nothing of the user's.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, field

from mfu_doctor.capture.loop.edges import CUT, Edge
from mfu_doctor.capture.loop.step_times import StepTimes
from mfu_doctor.facts.whole_run import BEFORE, BETWEEN, LONG, LONG_STEP, Elsewhere, WholeRun
from mfu_doctor.units import NS_PER_S


class RunClock(Struct):
    """The account of one block; all times are `perf_counter_ns`.

    Attributes:
        began_ns: when the block began.
        since_ns: when what runs now began, later by the recorder's work since.
        running: whether a step runs.
        evaluating: whether batches were fetched without gradients since the last step began.
        own: whether the recorder is at work right now.
        times: the un-profiled steps.
        profiled: the others.
        each: called when a step has ended, with what it took and how long it waited for its batches.
    """

    began_ns: int
    since_ns: int = 0
    running: bool = False
    evaluating: bool = False
    own: bool = False
    times: StepTimes = field(default_factory=StepTimes)
    profiled: StepTimes = field(default_factory=StepTimes)
    each: Callable[[int, int], None] | None = None
    _plain: bool = True
    _held_ns: int | None = None
    _waited_ns: int = 0
    _own_ns: int = 0
    _before_ns: int = 0
    _between_ns: int = 0
    _gaps: int = 0

    def __post_init__(self) -> None:
        self.since_ns = self.began_ns

    @property
    def steps(self) -> int:
        """Steps that ended."""
        return self.times.count + self.profiled.count

    def act(self, edge: int, at_ns: int, *, plain: bool) -> None:
        """What the step detector answered at this moment.

        Args:
            edge: see `Edge`.
            at_ns: the moment.
            plain: whether the step that begins, if one does, runs without a profiler.
        """
        if edge & Edge.RESTART:
            self._forget()
        if edge & Edge.VOID:
            self.running, self._held_ns = False, None
        if edge & Edge.HOLD:
            self._held_ns = at_ns
        if edge & Edge.END and self.running:
            self._end(at_ns if edge & Edge.BEGIN or self._held_ns is None else self._held_ns)
        if edge & Edge.PAUSE:
            self.evaluating = True
        if edge & Edge.BEGIN:
            self._begin(at_ns, plain=plain)

    def cut(self, at_ns: int) -> None:
        """The same as `act` with a cut between two steps without a profiler, which is what happens most often."""
        if not (self.running and self._plain):
            self.act(CUT, at_ns, plain=True)
            return
        took_ns, waited_ns = at_ns - self.since_ns, self._waited_ns
        self.times.add(took_ns, waited_ns)
        self.evaluating, self.since_ns, self._held_ns, self._waited_ns = False, at_ns, None, 0
        if self.each is not None:
            self.each(took_ns, waited_ns)

    def worked(self, from_ns: int, until_ns: int) -> None:
        """The recorder itself worked so long: it belongs to nothing of the user's."""
        self._own_ns += until_ns - from_ns
        self.since_ns += until_ns - from_ns

    def waited(self, took_ns: int) -> None:
        """The loop waited for a batch."""
        self._waited_ns += took_ns

    def fetched(self, *, training: bool) -> None:
        """A batch is about to be fetched; without gradients it is an evaluation's."""
        if not training:
            self.evaluating = True

    def unusual(self, now_ns: int) -> str | None:
        """The part of the run that it is in, or None in a step that is no longer than usual or in the recorder's own work."""
        if self.own:
            return None
        if not self.running:
            return BETWEEN if self.steps else BEFORE
        usual = (self.times if self._plain else self.profiled).usual_ns
        return LONG if usual and now_ns - self.since_ns > LONG_STEP * usual else None

    @property
    def plain_step(self) -> int | None:
        """The number of the un-profiled step that runs; None outside of one and in the recorder's own work."""
        return self.times.count if self.running and self._plain and not self.own else None

    def account(self, now_ns: int, *, skipped: int, ended: bool, elsewhere: tuple[Elsewhere, ...] = ()) -> WholeRun:
        """The account so far; what runs now counts as after the last step.

        Args:
            now_ns: the moment.
            skipped: leading steps that are the run's beginning in any case.
            ended: whether the block is over.
            elsewhere: where time outside of usual steps was seen.
        """
        times, profiled, left = self.times, self.profiled, now_ns - self.since_ns
        count, slow_ns = times.startup(skipped)
        long, long_ns = (a + b for a, b in zip(times.beyond(count, skipped), profiled.beyond(0, 0), strict=True))
        return WholeRun(
            wall_s=(now_ns - self.began_ns) / NS_PER_S,
            ended=ended,
            steps=self.steps,
            steps_s=(times.total_ns + profiled.total_ns - long_ns - slow_ns) / NS_PER_S,
            profiled_steps=profiled.count,
            profiled_s=profiled.total_ns / NS_PER_S,
            before_s=(self._before_ns + (0 if self.steps else left)) / NS_PER_S,
            between_s=self._between_ns / NS_PER_S,
            gaps=self._gaps,
            long_steps=long,
            long_s=long_ns / NS_PER_S,
            after_s=(left if self.steps else 0) / NS_PER_S,
            recorder_s=self._own_ns / NS_PER_S,
            startup_steps=count,
            startup_s=slow_ns / NS_PER_S,
            elsewhere=elsewhere,
        )

    def close(self) -> None:
        """The block ends: a step that is over although its cut was not made counts."""
        if self.running and self._held_ns is not None:
            self._end(self._held_ns)

    def _forget(self) -> None:
        """The steps so far were none: all that went by lies before the first one."""
        self.times, self.profiled = StepTimes(), StepTimes()
        self.running, self._held_ns, self.since_ns = False, None, self.began_ns + self._own_ns
        self._before_ns = self._between_ns = self._gaps = 0

    def _end(self, at_ns: int) -> None:
        times = self.times if self._plain else self.profiled
        took_ns, waited_ns = at_ns - self.since_ns, self._waited_ns
        times.add(took_ns, waited_ns)
        self.running, self._held_ns, self.since_ns, self._waited_ns = False, None, at_ns, 0
        if self.each is not None:
            self.each(took_ns, waited_ns)

    def _begin(self, at_ns: int, *, plain: bool) -> None:
        gone = at_ns - self.since_ns
        if gone > 0 and self.steps:
            self._between_ns += gone
            self._gaps += 1
        elif gone > 0:
            self._before_ns += gone
        self.running, self.evaluating, self.since_ns, self._plain, self._waited_ns = True, False, at_ns, plain, 0
