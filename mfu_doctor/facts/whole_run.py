"""What one whole block of profile() did with its wall time: its steps, and everything that was no step.

Seconds of the training thread. Written into the trace file with the other facts; None there: not measured.
"""

from __future__ import annotations

from msgspec import Struct

BEFORE, BETWEEN, LONG, AFTER = "before", "between", "long", "after"
PARTS = (BEFORE, BETWEEN, LONG, AFTER)

TRAINING = "training"
"""The kind of what usual steps do too, and of a line that calls a model, a backward pass or an optimizer.

A step can be long for a longer batch, without other work in it."""

# What a step can be long for without other work in it: a late batch, a busy machine, a second kind of step.
_OF_A_STEP = ("data loading", TRAINING)

LONG_STEP = 1.5
"""A step that takes this many times the usual one contains other work besides: usual steps differ by less."""


class Elsewhere(Struct, frozen=True, kw_only=True):
    """One place in the user's program where time went by outside of usual steps."""

    part: str  # one of PARTS
    seconds: float  # the part's time, divided by where the thread was when it was looked at
    place: str | None = None  # "train.py:41"
    function: str | None = None  # the function that this line called; of a library alone, with its class
    # evaluation, checkpoint, logging, generation, rollout, environment, data loading, imports, TRAINING; None: nothing tells
    kind: str | None = None
    library: str | None = None  # that does it by itself: no line of the program calls it
    asked_at: str | None = None  # the line of the program that asks the library for it ("train.py:12"); None: not found

    @property
    def line(self) -> str | None:
        """The line that does it, or that asks a library for it."""
        return self.place or self.asked_at

    @property
    def call(self) -> str | None:
        """The function that does it: "validate()", "ModelCheckpoint.on_train_batch_end() of lightning"; None if nothing tells."""
        if self.function is None:
            return None
        return f"{self.function}()" + (f" of {self.library}" if self.library else "")


class WholeRun(Struct, frozen=True, kw_only=True):
    """The account of a block: `steps_s` and the seconds of the other parts sum to `wall_s`."""

    wall_s: float  # of the block, or until the recording was written if it has not ended
    ended: bool  # False: the file was written before the block ended
    steps: int  # training steps seen
    steps_s: float  # their time, without what long ones and those of the beginning take more than usual ones
    profiled_steps: int = 0  # of these, with a profiler attached
    profiled_s: float = 0.0
    before_s: float = 0.0  # before the first step
    between_s: float = 0.0  # between a step and the next
    gaps: int = 0  # how often
    long_steps: int = 0  # steps longer than LONG_STEP times the usual one
    long_s: float = 0.0  # what they take more than it
    after_s: float = 0.0  # after the last step
    recorder_s: float = 0.0  # work of the recorder itself, outside of all the others
    startup_steps: int = 0  # leading un-profiled steps: the run's beginning
    startup_s: float = 0.0  # what they take more than usual ones
    elsewhere: tuple[Elsewhere, ...] = ()  # longest first

    @property
    def other_work(self) -> tuple[Elsewhere, ...]:
        """What long steps do besides training, as far as it is known.

        What a library does without a word for it, and at no line of the program, may be the training itself.
        """
        long = (e for e in self.elsewhere if e.part == LONG and e.function and (e.place or e.kind))
        return tuple(e for e in long if e.kind not in _OF_A_STEP)

    @property
    def own_s(self) -> float:
        """The wall time without the recorder's work: what the program takes alone, but for profiled steps."""
        return self.wall_s - self.recorder_s

    @property
    def step_s(self) -> float | None:
        """What a step took in all, with what comes between steps; without the beginning of the run, and without a profiler."""
        steps = self.steps - self.profiled_steps
        return (self.steps_s - self.profiled_s + self.long_s) / steps + self.pause_s if steps > 0 else None

    @property
    def pause_s(self) -> float:
        """What comes between a step and the next, for each step: there is as much of it beside profiled ones."""
        return self.between_s / self.steps if self.steps else 0.0

    def seconds_of(self, part: str) -> float:
        """Seconds of one of PARTS."""
        return {BEFORE: self.before_s, BETWEEN: self.between_s, LONG: self.long_s, AFTER: self.after_s}[part]


class LineTime(Struct, frozen=True, kw_only=True):
    """What one line of the user's program takes in a step: seconds in the short steps of a run, and in its long ones."""

    place: str  # "train.py:41"
    short_s: float
    long_s: float
    function: str | None = None  # that this line called
    library: str | None = None  # package of this function; None: the user's own, or none was called

    @property
    def call(self) -> str | None:
        """The function of a library with its package: "torchmetrics.compute"; None if none was called."""
        return f"{self.library}.{self.function}" if self.library and self.function else None


class StepCourse(Struct, frozen=True, kw_only=True):
    """How long a usual step took as the run went on, without its beginning.

    `parts_s` are of equal numbers of consecutive un-profiled steps. `lines` compare the third of the parts with the shortest
    steps with the third with the longest, as far as the thread was looked at in them.
    """

    steps: int  # in each part
    parts_s: tuple[float, ...]
    lines: tuple[LineTime, ...] = ()  # those that take most in the long steps first
