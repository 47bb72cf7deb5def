"""Where one training step ends and the next begins, from what the loop does anyway.

A pure state machine: hooks report data fetches, backward passes, optimizer steps, calls of modules and explicit `step()` calls of
the training thread; it answers with what to do now. The strongest source seen is used: `step()`, then optimizers, then backward
passes, then data fetches, then calls of the outermost module, then all of profile() as one step. If several optimizers step
(or several places call `backward`), the anchor counts (see `rhythm`), and it is followed when the loop becomes another one.
With a DataLoader the step ends at the next fetch, so that a step contains its own data loading and never ends inside an
optimizer step. Fetches of a loader that does not feed the loop (evaluation) are in no step (see `feeding`).
"""

from __future__ import annotations

from collections.abc import Hashable

from msgspec import Struct, field

from mfu_doctor.capture.loop.edges import Edge, Source
from mfu_doctor.capture.loop.feeding import Feeding
from mfu_doctor.capture.loop.rhythm import Beat, Rhythm
from mfu_doctor.capture.loop.turns import Turns

# Fetches and backward passes after which an optimizer that could step but never did is no longer waited for: nobody accumulates
# more.
_MOST_MICRO_BATCHES = 2000


_RANK = {source: rank for rank, source in enumerate(Source)}


class StepDetector(Struct):
    """Turns what the loop does into step edges.

    Attributes:
        source: where steps come from so far.
        ended: steps ended since the last restart.
        fetches: data fetches of the running step.
        ended_fetches: data fetches of the step that ended last.
        between: whether no step is running (epoch over, evaluation in progress).
        awaiting: whether an optimizer of the parameters in training exists, so that weaker sources need not be used.
        feeding: which loaders feed the loop.
        rhythm: the anchor among the beats of the present source.
        turns: how the optimizers of the loop take turns.
    """

    source: Source = Source.BLOCK
    ended: int = 0
    fetches: int = 0
    ended_fetches: int = 0
    between: bool = False
    awaiting: bool = False
    feeding: Feeding = field(default_factory=Feeding)
    rhythm: Rhythm = field(default_factory=Rhythm)
    turns: Turns = field(default_factory=Turns)
    _held: bool = False  # the anchor has stepped, the cut waits for the next fetch
    _at_fetches: bool = True  # cuts wait for fetches; False once the loop proved to step without fetching
    _since_anchor: int = 0  # fetches since the anchor stepped
    _unfed: int = 0  # beats of the anchor without a fetch, with no step running
    _trial: int | None = (
        None  # the running step began with a fetch from this loader, which is not known to feed the loop
    )
    _visited: bool = False  # another loader was fetched from inside the running step
    _visits: bool = False  # the same in the step before
    _micro_batches: int = 0  # fetches and backward passes while an optimizer is awaited

    @property
    def steps_of_turn(self) -> int:
        """Steps after which all of the loop's optimizers have stepped as often as they do."""
        return max(self.turns.turn.count(self.rhythm.anchor), 1)

    @property
    def complete(self) -> bool:
        """Whether the running step is over although its cut has not been made."""
        return self._held

    def fetch(self, loader: int, *, training: bool, last: bool) -> int:
        """A data fetch is about to begin.

        Args:
            loader: number of the data loader.
            training: whether gradients are enabled, so that this is not a validation loop.
            last: whether the loader is known to be exhausted, so that this fetch brings nothing.
        """
        begins = not last and self.feeding.fetch(loader, training=training)
        if self.source is Source.EXPLICIT:
            return Edge.NOTHING
        if _RANK[self.source] < _RANK[Source.FETCH]:
            edge = self._stronger(Source.FETCH)
            self.rhythm.beat(loader)
            self.between, self.fetches = False, 0
            return edge | Edge.VOID | Edge.BEGIN  # what came before the first fetch was set-up
        if self._awaits():
            return Edge.NOTHING
        if self.source is Source.FETCH:
            return self._fetch_alone(loader, last=last)
        if last:
            return self._last_fetch(loader)
        return self._fetch_in_loop(loader, begins=begins)

    def fetched(self, loader: int, *, exhausted: bool) -> int:
        """The fetch returned a batch, or the loader turned out to be exhausted."""
        if not exhausted:
            if not self.between:
                self.fetches += 1
            if self.feeding.known(loader):
                self._since_anchor += 1
            return Edge.NOTHING
        waits = _RANK[Source.FETCH] <= _RANK[self.source] < _RANK[Source.EXPLICIT]
        if waits and self.fetches == 0 and not self.between:
            self.between, self._trial = True, None
            return Edge.VOID
        return Edge.NOTHING

    def backward_begins(self) -> None:
        """A backward pass begins: what was fetched last is trained on."""
        self.feeding.used()
        self._trial = None

    def backward(self, site: Hashable) -> int:
        """A backward pass has ended that was called at this place of the program."""
        if self.source in (Source.OPTIMIZER, Source.EXPLICIT):
            return Edge.NOTHING
        if self._awaits():
            return Edge.NOTHING
        return self._beat(Source.BACKWARD, site, alike=True)

    def optimizer(self, key: Hashable, *, alike: bool = True) -> int:
        """An optimizer has stepped (or its step was skipped by a gradient scaler).

        Args:
            key: the optimizer.
            alike: whether it does the same work as the anchor's: then the steps of a new fold continue those of the last.
        """
        if self.source is Source.EXPLICIT:
            return Edge.NOTHING
        self.awaiting = False
        if self.source is not Source.OPTIMIZER:
            return self._beat(Source.OPTIMIZER, key, alike=alike)
        often = self.turns.beat(key, self.rhythm.anchor, self.rhythm.since)
        return self._turn(key, often) if often else self._beat(Source.OPTIMIZER, key, alike=alike)

    def module(self, key: Hashable) -> int:
        """A module is called that no other module calls."""
        if _RANK[self.source] > _RANK[Source.MODULE]:
            return Edge.NOTHING
        first = self.source is Source.BLOCK
        edge = self._stronger(Source.MODULE)
        if self.rhythm.beat(key) is Beat.OTHER:
            return Edge.NOTHING
        if first:
            return edge | Edge.VOID | Edge.BEGIN
        return self._cut(begins=True)

    def explicit(self) -> int:
        """The user called `step()`."""
        edge = self._stronger(Source.EXPLICIT)
        self._held = False
        return edge | self._cut(begins=True)

    def other_thread(self) -> int:
        """The training goes on in another thread: nothing seen so far was a step of it."""
        edge = Edge.RESTART | Edge.VOID
        self.source, self.ended, self.fetches, self.between = Source.BLOCK, 0, 0, True
        self._held, self.rhythm = False, Rhythm()
        self.feeding.forget()
        return edge

    def _awaits(self) -> bool:
        """Whether an optimizer is still waited for."""
        self._micro_batches += self.awaiting
        self.awaiting = self.awaiting and self._micro_batches < _MOST_MICRO_BATCHES
        return self.awaiting

    def _stronger(self, source: Source) -> int:
        if self.source is source:
            return Edge.NOTHING
        self.source, self.rhythm = source, Rhythm()
        if self._held:  # a backward pass held it, and now the optimizer of the same step has stepped
            self._held, self._since_anchor = False, self.fetches
        return self._restart()

    def _restart(self) -> int:
        restart = Edge.RESTART if self.ended else Edge.NOTHING
        self.ended = 0
        return restart

    def _cut(self, *, begins: bool) -> int:
        edge = Edge.NOTHING
        if not self.between:
            edge, self.ended, self.ended_fetches = Edge.END, self.ended + 1, self.fetches
        self.between, self.fetches, self._visited = not begins, 0, False
        return edge | (Edge.BEGIN if begins else Edge.NOTHING)

    def _fetch_alone(self, loader: int, *, last: bool) -> int:
        """No backward pass was seen: each batch of the anchoring loader is a step."""
        if last:
            ends = loader == self.rhythm.anchor
            self.rhythm.over()
            return self._cut(begins=False) if ends else Edge.NOTHING
        beat = self.rhythm.beat(loader)
        if beat is Beat.OTHER:
            return Edge.NOTHING
        if beat is Beat.MOVED and not self.between:
            self.fetches = 0
            return Edge.VOID | Edge.BEGIN
        return self._cut(begins=True)

    def _last_fetch(self, loader: int) -> int:
        """A loader's epoch is over."""
        if self._held and self.feeding.known(loader):
            self._held = False
            return self._cut(begins=False)
        return Edge.NOTHING

    def _fetch_in_loop(self, loader: int, *, begins: bool) -> int:
        known = self.feeding.known(loader)
        if self._held or self.between:
            opens = self._held
            self._held = False
            if not opens and not begins:
                return Edge.PAUSE
            self._trial = loader if begins and not known else None
            return self._cut(begins=begins) | (Edge.NOTHING if begins else Edge.PAUSE)
        if self._trial is not None:
            return self._after_trial(begins=begins, known=known)
        if begins or self._visits:
            self._visited = self._visited or not begins
            return Edge.NOTHING
        self._visited = self.between = True
        return Edge.VOID | Edge.PAUSE

    def _after_trial(self, *, begins: bool, known: bool) -> int:
        if begins and not known:
            return Edge.NOTHING
        self._trial, self.fetches = None, 0
        if begins:  # the loop's own loader: what the other one brought was not trained on
            return Edge.VOID | Edge.BEGIN
        self.between = True
        return Edge.VOID | Edge.PAUSE

    def _beat(self, source: Source, key: Hashable, *, alike: bool) -> int:
        edge = self._stronger(source)
        beat = self.rhythm.beat(key)
        if beat is Beat.OTHER:
            return edge
        if beat is Beat.MOVED:
            edge |= self._moved(alike=alike)
        return edge | self._anchor_stepped()

    def _moved(self, *, alike: bool) -> int:
        self._begin_again()
        self.turns = Turns(loops=self.turns.loops)
        edge = Edge.MOVED | Edge.VOID
        return edge if alike else edge | self._restart()

    def _turn(self, key: Hashable, often: int) -> int:
        """This optimizer comes once in each turn of the loop, and the anchor so often: a step is a turn."""
        self.rhythm.take_over(key, often)
        self._begin_again()
        return Edge.VOID | self._restart() | self._anchor_stepped()

    def _begin_again(self) -> None:
        self._held, self.between, self._at_fetches, self._unfed = False, True, True, 0

    def _anchor_stepped(self) -> int:
        fetched, self._since_anchor = self._since_anchor, 0
        self.feeding.iterated()
        self._visits, self._visited, self._trial = self._visited, False, None
        if self._held:  # two steps without a fetch between them: this loop does not fetch for every step
            self._at_fetches = self._held = False
            self.fetches = 0
            return Edge.VOID | Edge.BEGIN
        if not self._at_fetches:
            return self._cut(begins=True)
        if fetched and not self.between:
            self._held, self._unfed = True, 0
            return Edge.HOLD
        if self.between and self.feeding.feeders:
            self._unfed = 0 if fetched else self._unfed + 1
            if self._unfed < 2:
                return Edge.NOTHING  # this step did not begin where steps do; the next one begins with its fetch
            self._at_fetches = False
        return self._cut(begins=True)
