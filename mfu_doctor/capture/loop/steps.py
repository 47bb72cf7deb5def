"""Where one training step ends and the next begins, from what the loop does anyway.

A pure state machine: hooks report data fetches, optimizer steps and explicit `step()` calls of the main thread; it answers with
what to do now. The strongest source seen is used: `step()`, then the anchor optimizer, then data fetches, then all of profile()
as one step. The anchor is the first optimizer, unless another one is seen twice before it returns. So GAN pairs and one optimizer
per parameter count once per step. With a DataLoader the step ends at the next fetch, so that a step contains its own data loading
and never ends inside an optimizer step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Source(Enum):
    """What the steps were found from; the value is what `Facts.step_source` holds."""

    BLOCK = "block"
    FETCH = "fetch"
    OPTIMIZER = "optimizer"
    EXPLICIT = "step()"


class Edge:
    """What to do at this moment, in this order: bits of an int (an `enum.Flag` costs microseconds in every step)."""

    NOTHING = 0
    RESTART = 1  # steps counted so far were no steps (a better source appeared): forget them
    VOID = 2  # the running step is no step: forget its time
    END = 4  # the running step ends
    BEGIN = 8  # a step begins
    HOLD = 16  # the running step is over, its cut follows at the next fetch: take the time now


CUT = Edge.END | Edge.BEGIN


@dataclass(slots=True)
class StepDetector:
    """Turns what the loop does into step edges.

    Attributes:
        source: where steps come from so far.
        ended: steps ended since the last restart.
        fetches: data fetches of the running step.
        ended_fetches: data fetches of the step that ended last.
        between: whether no step is running (epoch over, validation in progress).
    """

    source: Source = Source.BLOCK
    ended: int = 0
    fetches: int = 0
    ended_fetches: int = 0
    between: bool = False
    _anchor: int | None = None
    _calls: dict[int, int] = field(default_factory=dict)
    _held: bool = False  # the anchor has stepped, the cut waits for the next fetch
    _at_fetches: bool = True  # cuts wait for fetches; False once the loop proved to step without fetching
    _since_anchor: int = 0  # fetches since the anchor stepped

    @property
    def complete(self) -> bool:
        """Whether the running step is over although its cut has not been made."""
        return self._held

    def fetch(self, *, training: bool, last: bool) -> int:
        """A data fetch is about to begin.

        Args:
            training: whether gradients are enabled, so that this is not a validation loop.
            last: whether the loader is known to be exhausted, so that this fetch brings nothing.
        """
        if self.source is Source.EXPLICIT:
            return Edge.NOTHING
        if self.source is Source.BLOCK:
            self.source = Source.FETCH
            return Edge.VOID | Edge.BEGIN  # what came before the first fetch was set-up
        if self.source is Source.OPTIMIZER:
            return self._fetch_after_optimizer(begins=training and not last)
        return self._cut(begins=not last)

    def fetched(self, *, exhausted: bool) -> int:
        """The fetch returned a batch, or the loader turned out to be exhausted."""
        if not exhausted:
            self.fetches += 1
            self._since_anchor += 1
            return Edge.NOTHING
        if self.source in (Source.FETCH, Source.OPTIMIZER) and self.fetches == 0 and not self.between:
            self.between = True
            return Edge.VOID
        return Edge.NOTHING

    def optimizer(self, key: int) -> int:
        """An optimizer has stepped (or its step was skipped by a gradient scaler)."""
        if self.source is Source.EXPLICIT:
            return Edge.NOTHING
        self._calls[key] = self._calls.get(key, 0) + 1
        edge = Edge.NOTHING
        if self.source is not Source.OPTIMIZER:
            self.source, self._anchor = Source.OPTIMIZER, key
            edge = self._restart()
        elif key != self._anchor and self._calls[key] == 2 and self._calls.get(self._anchor or 0) == 1:
            self._anchor = key
            edge = self._restart()
        if key != self._anchor:
            return edge
        return edge | self._anchor_stepped()

    def explicit(self) -> int:
        """The user called `step()`."""
        edge = Edge.NOTHING
        if self.source is not Source.EXPLICIT:
            self.source, self._held = Source.EXPLICIT, False
            edge = self._restart()
        return edge | self._cut(begins=True)

    def _restart(self) -> int:
        restart = Edge.RESTART if self.ended else Edge.NOTHING
        self.ended = 0
        return restart

    def _cut(self, *, begins: bool) -> int:
        edge = Edge.NOTHING
        if not self.between:
            edge, self.ended, self.ended_fetches = Edge.END, self.ended + 1, self.fetches
        self.between, self.fetches = not begins, 0
        return edge | (Edge.BEGIN if begins else Edge.NOTHING)

    def _fetch_after_optimizer(self, *, begins: bool) -> int:
        if self._held:
            self._held = False
            return self._cut(begins=begins)
        if self.between and begins:
            return self._cut(begins=True)
        return Edge.NOTHING

    def _anchor_stepped(self) -> int:
        fetched, self._since_anchor = self._since_anchor, 0
        if self._held:  # two steps without a fetch between them: this loop does not fetch for every step
            self._at_fetches = self._held = False
            self.fetches = 0
            return Edge.VOID | Edge.BEGIN
        if fetched and self._at_fetches and not self.between:
            self._held = True
            return Edge.HOLD
        return self._cut(begins=True)
