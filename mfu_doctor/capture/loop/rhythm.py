"""Which of several things that happen in a loop comes once in each of its iterations, and when the loop has become another one.

A GAN steps two optimizers in one iteration, a network can have one optimizer for each parameter: one of them, the anchor, counts
the iterations. It is the first, as long as it returns, and until another one takes over (see `turns`). It has been given up when
another has come more often since its last beat than ever before between two of its beats: the fold, the trial or the phase that
it belonged to is over.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum

from msgspec import Struct, field

# Others may come so often before the anchor returns for the first time: a GAN may step its generator twice for each step of
# its critic.
_PATIENCE = 2

# How much longer than ever before the anchor may stay away: a loop may skip one of its turns.
_LONGER = 2


class Beat(Enum):
    """What a beat is."""

    OTHER = "other"  # not the anchor's
    ANCHOR = "anchor"  # the anchor's: once per iteration
    MOVED = "moved"  # of the new anchor: the former one has been given up


class Rhythm(Struct):
    """Follows the beats of a loop.

    Attributes:
        anchor: whose beats count, None before the first.
        since: beats of this anchor since it became the anchor.
    """

    anchor: Hashable | None = None
    since: int = 0
    _away: dict[Hashable, int] = field(default_factory=dict)  # beats of each other one since the anchor's last
    _longest: int = 0  # the most beats of one other between two of the anchor's
    _former: Hashable | None = None  # the anchor before this one
    _may_move: bool = False  # the anchor's own loop is known to be over

    def beat(self, key: Hashable) -> Beat:
        """Something happened."""
        if self.anchor is None:
            self.anchor = key
        if key == self.anchor:
            self._longest = max(self._longest, *self._away.values(), 0)
            self._away.clear()
            self.since += 1
            self._may_move = False
            return Beat.ANCHOR
        if key == self._former:  # it was only away: the two take turns of this length
            self._longest, self._former = max(self._longest, self.since), None
        self._away[key] = self._away.get(key, 0) + 1
        if not self._may_move and self._away[key] <= max(_PATIENCE, _LONGER * self._longest):
            return Beat.OTHER
        self._former, self.anchor = self.anchor, key
        self._away.clear()
        self.since, self._may_move = 1, False
        return Beat.MOVED

    def take_over(self, key: Hashable, often: int) -> None:
        """Another one counts the iterations from this beat on; the present anchor comes so often between two of its beats."""
        self._former, self.anchor, self.since = None, key, 1
        self._longest = max(self._longest, often)
        self._away.clear()
        self._may_move = False

    def over(self) -> None:
        """The anchor is gone (its object has died, its loader is exhausted): whatever comes next is the new one."""
        self._may_move = True
