"""One iteration of a loop that repeats itself, so that the step detector is asked only when the loop does something else.

Nearly all iterations of a run are alike: the same loaders and optimizers in the same order. If an iteration has brought the
detector back into the state in which it began, the next one like it gets the same answers, for one comparison each. Whatever else
happens, the detector is first brought to where it would be, and then asked as ever.
"""

from __future__ import annotations

from collections.abc import Hashable
from copy import deepcopy
from typing import Any

from msgspec import Struct, field

from mfu_doctor.capture.loop.edges import Edge, Source
from mfu_doctor.capture.loop.steps import StepDetector

_MOST_SIGNS = 512  # in one iteration
_FEW = 8  # iterations: a loop that repeated itself so often only is not worth a comparison of states after each step
_LONGEST_WAIT = 1024  # steps


class Sign:
    """What happened: the methods of the detector that are asked."""

    FETCH = 0
    FETCHED = 1
    BACKWARD_BEGINS = 2
    BACKWARD = 3
    OPTIMIZER = 4
    EXPLICIT = 5


class _State(Struct, frozen=True):
    """The detector between two steps, without what only counts."""

    detector: StepDetector
    ended: int
    since: int

    @classmethod
    def of(cls, detector: StepDetector) -> _State:
        copied = deepcopy(detector)
        ended, since = copied.ended, copied.rhythm.since
        copied.ended = copied.rhythm.since = 0
        return cls(copied, ended, since)


class Cycle(Struct):
    """The iteration that the loop repeats, once one is known.

    Attributes:
        detector: finds the steps.
    """

    detector: StepDetector
    _signs: list[tuple[int, Hashable, int]] = field(default_factory=list)  # of the iteration, with the answers
    _begin: _State | None = None  # the state in which it begins
    _counts: tuple[int, int] = (0, 0)  # steps, and beats of the anchor, of one iteration
    _on: bool = False  # the loop repeats it, and the detector stays behind
    _at: int = 0  # signs of this iteration so far
    _rounds: int = 0  # iterations that the detector has not seen
    _seen: list[tuple[int, Hashable, int]] = field(default_factory=list)  # since the last step began
    _last: _State | None = None  # when it began
    _patience: int = 1  # steps to wait after the next time that the loop does not repeat itself
    _wait: int = 0

    def answer(self, sign: int, key: Hashable) -> int | None:
        """What the detector answers if the loop goes on as before; None if it must be asked."""
        if not self._on:  # with explicit steps nothing else counts, and no iteration need be known
            return Edge.NOTHING if sign != Sign.EXPLICIT and self.detector.source is Source.EXPLICIT else None
        known, expected, edge = self._signs[self._at]
        if sign != known or key != expected:
            return None
        self._at += 1
        if self._at == len(self._signs):
            self._at = 0
            self._rounds += 1
        return edge

    def leave(self) -> None:
        """The loop does something else: bring the detector to where it would be."""
        if not self._on:
            return
        self._on = False
        ended, beats = self._counts
        self.detector.ended += self._rounds * ended
        self.detector.rhythm.since += self._rounds * beats
        for sign, key, _ in self._signs[: self._at]:
            tell(self.detector, sign, key)
        self.interrupt()
        if self._rounds < _FEW:
            self._give_up()
        else:
            self._patience = 1

    def learn(self, sign: int, key: Hashable, edge: int) -> None:
        """The detector was asked and has answered."""
        self._seen.append((sign, key, edge))
        if edge & (Edge.RESTART | Edge.MOVED) or len(self._seen) > _MOST_SIGNS:
            self.interrupt()
        elif edge & Edge.BEGIN:
            self._step_begins()

    def interrupt(self) -> None:
        """Something happened that no iteration repeats: what was seen of this one is not all of it."""
        self._seen, self._last = [], None

    def _step_begins(self) -> None:
        seen, self._seen = self._seen, []
        if self._wait:
            self._wait -= 1
            return
        state, last = _State.of(self.detector), self._last
        if self._begin is not None and state.detector == self._begin.detector:
            self._repeat()
        elif last is not None and state.detector == last.detector:
            self._signs, self._begin = seen, state
            self._counts = state.ended - last.ended, state.since - last.since
            self._repeat()
        elif last is not None:
            self._give_up()
        else:
            self._last = state

    def _repeat(self) -> None:
        self._on, self._at, self._rounds, self._last = True, 0, 0, None

    def _give_up(self) -> None:
        """Look at the states of fewer and fewer steps: a copy of one costs more than the answers of many."""
        self._last, self._wait = None, self._patience
        self._patience = min(2 * self._patience, _LONGEST_WAIT)


def tell(detector: StepDetector, sign: int, key: Any) -> int:
    """Ask the detector about one sign of an iteration."""
    if sign == Sign.FETCH:
        loader, training, last = key
        return detector.fetch(loader, training=training, last=last)
    if sign == Sign.FETCHED:
        loader, exhausted = key
        return detector.fetched(loader, exhausted=exhausted)
    if sign == Sign.BACKWARD_BEGINS:
        detector.backward_begins()
        return Edge.NOTHING
    if sign == Sign.EXPLICIT:
        return detector.explicit()
    return detector.backward(key) if sign == Sign.BACKWARD else detector.optimizer(key)
