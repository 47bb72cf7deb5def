"""What the hooks report, told to the step detector: the user's objects become numbers, and only numbers are kept."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from types import FrameType
from typing import Any

from msgspec import Struct, field

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.awaited import forward_work, optimizer_exists
from mfu_doctor.capture.loop.edges import Edge, Source
from mfu_doctor.capture.loop.hooks import loader_of, not_the_programs
from mfu_doctor.capture.loop.identities import Identities
from mfu_doctor.capture.loop.loops import loops_around
from mfu_doctor.capture.loop.losses import Losses
from mfu_doctor.capture.loop.steps import StepDetector
from mfu_doctor.capture.loop.training_thread import TrainingThread

# Calls of outermost modules at which an optimizer is looked for: both lie before the steps that are timed.
_LOOKS = (1, 4)
_WITH_LOOPS = 16  # optimizers: a loop with one for each parameter steps them all in one place
_TRAINS = (Source.BACKWARD, Source.OPTIMIZER, Source.EXPLICIT)


class Signs(Struct):
    """The signs of one loop; each method returns what the step detector answers.

    Attributes:
        notes: where to say what could not be told of the user's objects.
        detector: finds the steps.
        thread: the thread that trains.
        known: numbers of the optimizers and loaders.
        losses: holds the loss of a step in which it is wanted.
        former: the optimizer that the loop was left for when it moved last.
    """

    notes: Notes = field(default_factory=Notes)
    detector: StepDetector = field(default_factory=StepDetector)
    thread: TrainingThread = field(default_factory=TrainingThread)
    known: Identities = field(default_factory=Identities)
    losses: Losses = field(default_factory=Losses)
    former: Hashable | None = None
    _kinds: dict[int, int | None] = field(default_factory=dict)  # of each optimizer; None: it does not tell
    _work: int | None = None  # forward work at the last fetch
    _calls: int = 0  # of outermost modules
    _inference: bool = False  # no optimizer was there at the last look
    _sought: bool = False  # after the first backward pass: whether an optimizer will step

    def fetch_begins(self, iterator: object, *, training: bool, last: bool) -> int:
        """An iterator of a loader is about to fetch."""
        self._await_training(training=training)
        return self.detector.fetch(self.known.of(loader_of(iterator)), training=training, last=last)

    def fetch_ends(self, iterator: object, *, exhausted: bool) -> int:
        """It has fetched, or is exhausted."""
        return self.detector.fetched(self.known.of(loader_of(iterator)), exhausted=exhausted)

    def module_called(self, module: object) -> int:
        """A module is called that no other module calls; with an optimizer there it is an evaluation before the training."""
        if self.detector.source not in (Source.BLOCK, Source.MODULE):
            return Edge.NOTHING
        self._calls += 1
        if self._calls in _LOOKS:
            self._inference = not self._optimizer_exists()
        return self.detector.module(self.known.of(module)) if self._inference else Edge.NOTHING

    def backward_begins(self, roots: Sequence[Any] = ()) -> None:
        """A backward pass begins; from `roots`, if its loss may be held."""
        self.losses.begins(roots)
        self.detector.backward_begins()

    def backward_ended(self, site: Hashable) -> int:
        """A backward pass has ended. After the first one an optimizer is looked for, which takes some 0.1 s."""
        if not self._sought:
            self._sought = True
            explicit = self.detector.source is Source.EXPLICIT
            self.detector.awaiting = not explicit and self._optimizer_exists(with_gradients=True)
        return self.detector.backward(site)

    def optimizer_stepped(self, optimizer: object) -> int:
        """An optimizer has stepped."""
        self._sought = True
        number, anchor = self.known.of(optimizer), self.detector.rhythm.anchor
        if number not in self._kinds:
            self._kinds[number] = self.notes.guarded("an optimizer could not be compared with others", _kind, optimizer)
            if len(self._kinds) <= _WITH_LOOPS:
                self.notes.guarded("the loops could not be found", self._note_loops, number, sys._getframe(1))  # noqa: SLF001
        if isinstance(anchor, int) and not self.known.alive(anchor):
            self.detector.rhythm.over()
        kind = self._kinds[number]
        alike = isinstance(anchor, int) and kind is not None and self._kinds.get(anchor) == kind
        edge = self.detector.optimizer(number, alike=alike)
        if edge & Edge.MOVED:
            self.former = anchor
        return edge

    def _optimizer_exists(self, *, with_gradients: bool = False) -> bool:
        what = "optimizers could not be looked for"
        return bool(self.notes.guarded(what, optimizer_exists, with_gradients=with_gradients))

    def _note_loops(self, number: int, frame: FrameType) -> None:
        self.detector.turns.loops[number] = loops_around(frame, not_the_programs)

    def _await_training(self, *, training: bool) -> None:
        """Batches that are loaded one after another, with an optimizer there, are trained on later: they are no steps.

        If operations with gradients follow a batch and no backward pass does, this is inference.
        """
        if self._sought:
            return
        work = forward_work()
        if self._work is None:
            first = training and self.detector.source is Source.BLOCK
            self.detector.awaiting = first and work is not None and self._optimizer_exists()
        elif work != self._work or not training:
            self.detector.awaiting = False
        self._work = -1 if work is None else work

    def follow(self) -> int | None:
        """A backward pass begins in a thread that is not known to train; None if it is none of this loop's."""
        trained = self.detector.awaiting or self.detector.source in _TRAINS
        if not self.thread.may_move(trained=trained):
            return None
        self.thread.move_here()
        return Edge.NOTHING if trained else self.detector.other_thread()


def _kind(optimizer: Any) -> int:
    """Equal for optimizers of one class that update as many parameters of the same sizes."""
    groups = getattr(optimizer, "param_groups", None) or ()
    sizes = sorted(int(p.numel()) for group in groups for p in group.get("params", ()) if hasattr(p, "numel"))
    return hash((type(optimizer).__qualname__, tuple(sizes)))
