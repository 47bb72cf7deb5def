"""Which data loaders feed the training: evaluation fetches from another loader, and is no part of a step.

A loader feeds the training if a backward pass or an optimizer step follows its fetch. A second one (labelled and unlabelled
batches) feeds it too if it is fetched from as often in each iteration. Another loader that is fetched from twice without a
backward pass in between is a visitor: its fetches belong to no step.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct, field


class Feeding(Struct):
    """Learns from fetches and backward passes which loaders feed the loop.

    Attributes:
        feeders: the loaders that do; empty as long as no batch was used.
        trained: all loaders that ever did, those of past epochs and folds included.
        each: fetches from each loader in the iteration that ended last.
    """

    feeders: set[int] = field(default_factory=set)
    trained: set[int] = field(default_factory=set)
    each: Counter[int] = field(default_factory=Counter)
    _now: Counter[int] = field(default_factory=Counter)  # fetches since the last iteration ended
    _before: set[int] = field(default_factory=set)  # loaders that kept step in the iteration before
    _first: bool = True  # no iteration with fetches has ended
    _visitors: set[int] = field(default_factory=set)
    _quiet: set[int] = field(default_factory=set)  # feeders that are fetched from with gradients disabled
    _latest: tuple[int, bool] | None = (
        None  # loader of the last fetch that no backward pass followed; were gradients on?
    )
    _used: set[int] = field(default_factory=set)  # loaders of this iteration whose fetch a backward pass followed

    def fetch(self, loader: int, *, training: bool) -> bool:
        """A loader is about to load; returns whether a step may begin with it: it feeds the loop, or may turn out to."""
        if loader not in self.feeders and self.feeders and self._latest == (loader, training):
            self._visitors.add(loader)
        self._latest = loader, training
        if not training and loader not in self._quiet:
            return False
        self._now[loader] += 1
        return not self.feeders or loader not in self._visitors

    def known(self, loader: int) -> bool:
        """Whether this loader is known to feed the loop; any does as long as none is known."""
        return not self.feeders or loader in self.feeders

    def used(self) -> None:
        """A backward pass begins: the batch that was fetched last is trained on."""
        if self._latest is None:
            return
        (loader, training), self._latest = self._latest, None
        self._used.add(loader)
        self._visitors.discard(loader)
        self.feeders.add(loader)
        self.trained.add(loader)
        if not training:
            self._quiet.add(loader)

    def iterated(self) -> None:
        """An iteration of the loop ended: a loader that keeps step with a used one joins, one that was left out leaves."""
        self.used()
        now, self._now = self._now, Counter()
        self.each = now
        counts = {now[loader] for loader in self._used}
        if not now or not counts:
            return
        in_step = {loader for loader in now if now[loader] in counts}
        joined = {loader for loader in in_step if self._first or loader in self._before}
        self.feeders = (self.feeders & (now.keys() | self._used)) | joined | self._used
        self._visitors -= self.feeders
        self.trained |= joined & self._before
        self._before, self._used, self._first = in_step, set(), False

    def forget(self) -> None:
        """The loop seen so far was not the one that trains."""
        self.feeders, self.trained, self._visitors, self._quiet = set(), set(), set(), set()
        self.each, self._now, self._before, self._first = Counter(), Counter(), set(), True
        self._latest, self._used = None, set()
