"""Decides which steps are recorded to count their FLOPs: one, again when the shapes change, and ever fewer if they always do."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Hashable
from pathlib import Path

from msgspec import Struct, field

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.export.at_hand import at_hand
from mfu_doctor.capture.export.scratch import scratch
from mfu_doctor.capture.export.step_shapes import StepShapes
from mfu_doctor.capture.profiler.under_way import recording_here
from mfu_doctor.meter.peak import Machine
from mfu_doctor.meter.step_work import StepWork, count_recorded

# Steps before the first one that is recorded: functions are compiled and caches filled in these.
_SETTLING = 2
_MOST_KINDS = 256  # kinds of steps whose work is kept
_LONGEST_PAUSE = 1 << 20  # steps
_FAILED = "the FLOPs of a step could not be counted"

NOT_YET = "the FLOPs of a step have not been counted yet"
_OTHER_SHAPES = "the FLOPs of a step with these shapes have not been counted: they change too often"
_RECORDING = "a recording of mfu-doctor is under way: FLOPs are counted after it"


class StepCounter(Struct):
    """The work of each kind of step, as far as it was counted. Steps are of one kind if they work on the same shapes.

    Attributes:
        machine: what is stated about the device.
        notes: where a failure is said.
        known: the work of each kind that was counted.
        latest: the work that was counted last.
        reason: why the work of a kind is not known, if it is not.
    """

    machine: Machine
    notes: Notes
    known: dict[Hashable, StepWork] = field(default_factory=dict)
    latest: StepWork | None = None
    reason: str = NOT_YET
    _recorded: StepShapes | None = None
    _seeks: bool = True  # there was a step of a kind whose work is not known
    _pause: int = _SETTLING  # steps to wait before the next one may be recorded
    _patience: int = 1  # odd, so that of two kinds in turn it is not always the same that is recorded
    _places: list[str] = field(default_factory=lambda: list(sys.path))

    @property
    def rests(self) -> bool:
        """Whether nothing is recorded or sought while steps are of kinds whose work is known."""
        return self._recorded is None and not self._seeks

    @property
    def pause(self) -> int | None:
        """How many steps nothing is decided after; None: after none before one is of a kind that is not known."""
        return None if self.rests else self._pause

    def between(self, kind: Hashable, *, usable: bool, is_now: bool = True) -> bool:
        """A step of this kind has ended.

        Args:
            kind: of the step.
            usable: whether it was a step of training and nothing else.
            is_now: whether the next one has not begun.

        Returns:
            Whether this step was recorded.
        """
        recorded, self._recorded = self._recorded, None
        self._seeks = self._seeks or kind not in self.known
        if recorded is not None:
            self._count(recorded, kind, usable=usable)
        elif self._pause:
            self._pause -= 1
        elif self._seeks and is_now:
            self._begin()
        return recorded is not None

    def again(self) -> None:
        """Count anew: the work has changed although no shape shows it."""
        self.known.clear()
        self._pause, self._patience, self._seeks, self.reason = 0, 1, True, NOT_YET

    def drop(self) -> bool:
        """What is recorded is not one step of training: give it up; returns whether anything was."""
        recorded, self._recorded = self._recorded, None
        if recorded is not None:
            self.notes.guarded(_FAILED, recorded.give_up)
        return recorded is not None

    def afresh(self) -> None:
        """What came since the last step was no training: a step that is recorded begins now."""
        if self.drop():
            self._begin()

    def stop(self) -> None:
        """Record no more."""
        self.drop()
        self._pause = _LONGEST_PAUSE

    def _begin(self) -> None:
        if recording_here():
            self.reason = _RECORDING
            return
        recorded = StepShapes()
        refused: list[str | None] = []
        if not self.notes.succeeds(_FAILED, lambda: refused.append(recorded.begin())):
            self._wait(self.notes.said[-1])
        elif refused[0] is not None:
            self._wait(f"{NOT_YET}: {refused[0]}")
        else:
            self._recorded = recorded

    def _count(self, recorded: StepShapes, kind: Hashable, *, usable: bool) -> None:
        if not usable:
            self.notes.guarded(_FAILED, recorded.give_up)
            self._wait(f"{NOT_YET}: the step that was recorded held an evaluation")
            return
        self._seeks = kind in self.known  # it was another kind that was sought
        why = self.notes.guarded(_FAILED, self._read, recorded, kind)
        if kind in self.known:
            self._wait(_OTHER_SHAPES)
        else:
            self._seeks = True
            self._wait(f"{NOT_YET}: {why or self.notes.said[-1]}")

    def _read(self, recorded: StepShapes, kind: Hashable) -> str | None:
        with at_hand(self._places), scratch(Path(tempfile.gettempdir()) / "step.json") as folder:
            if folder is None:
                recorded.give_up()
                return "no directory has free space"
            path = folder / "step.json"
            why = recorded.end(path)
            if why is None:
                if len(self.known) >= _MOST_KINDS:
                    self.known.clear()
                self.latest = self.known[kind] = count_recorded(path, self.machine)
            return why

    def _wait(self, reason: str) -> None:
        """Each step that is recorded is slow, so the next one is more than twice as far away."""
        self.reason, self._pause = reason, self._patience
        self._patience = min(2 * self._patience + 1, _LONGEST_PAUSE)
