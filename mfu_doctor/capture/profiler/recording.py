"""What the phase runner keeps: the whole steps that it saw, and the profiler sessions with the steps in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct, field

from mfu_doctor.capture.loop.schedule import Phase
from mfu_doctor.capture.loop.stopwatch import Mark, seconds_between
from mfu_doctor.capture.profiler.limits import events_of_look
from mfu_doctor.capture.profiler.same_work import STEP_MARK, calls_of_steps, differs, in_whole
from mfu_doctor.capture.profiler.session import Session, State
from mfu_doctor.facts import Window


class StepRow(Struct, frozen=True):
    """One whole step that was seen."""

    phase: Phase
    index: int
    start: Mark
    end: Mark
    fetches: int
    recorded: bool = False  # a profiler session was recording it

    @property
    def seconds(self) -> float:
        """Its time; may wait for the device, so ask outside steps."""
        return seconds_between(self.start, self.end)


class Recording(Struct):
    """One session and the steps in it."""

    session: Session
    kind: str
    start_ns: int = 0
    end_ns: int = 0
    rows: list[StepRow] = field(default_factory=list)
    stumps: list[int] = field(default_factory=list)  # numbers of marks that were opened and whose step never was one

    @property
    def usable(self) -> bool:
        """Whether it ended well with at least one whole step."""
        return self.session.state is State.DONE and bool(self.rows)

    def calls(self) -> list[Counter[str]]:
        """How often each of its steps called each operator with FLOPs; empty if torch does not say."""
        return calls_of_steps(self.session.kineto_events(), {f"{STEP_MARK}{number}" for number in self.stumps})

    def window(self, kind: str | None = None) -> Window:
        """What the facts say about it."""
        return Window(kind=kind or self.kind, start_ns=self.start_ns, end_ns=self.end_ns, steps=len(self.rows))


def other_work(shapes: Recording | None, timing: Recording | None, turn: int) -> str | None:
    """Why the steps recorded with shapes are not like the timed ones; None if they are, or if that cannot be told.

    Args:
        shapes: of them the last step counts, or the last turn.
        timing: what they are compared with.
        turn: steps after which the loop has done all of its work.
    """
    if shapes is None or timing is None or not (shapes.usable and timing.usable):
        return None
    steps = in_whole(shapes.calls(), turn)
    return differs(steps[-1], in_whole(timing.calls(), turn)) if steps else None


def events_of_step(recordings: Mapping[str, Recording]) -> float | None:
    """Events of one step without source lines; None if no recording was made before, or torch does not say."""
    for kind, of_host in (("look", True), ("timing", False)):
        recording = recordings.get(kind)
        events = recording.session.events() if recording is not None and recording.usable else None
        if recording is not None and events is not None:
            return (events_of_look(events) if of_host else events) / len(recording.rows)
    return None
