"""The turn that a loop of several optimizers repeats, and which of them comes once in it.

A GAN may step its critic five times for each step of its generator. If the critic has a loop of its own inside the loop of the
generator, the program means the outer one: its step is five critic updates and one of the generator. If both step in one loop,
and the generator only in every fifth round, a round is the step, and five of them do all the work that there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from msgspec import Struct, field

from mfu_doctor.arrays.cycles import LONGEST_CYCLE, cycle_at_end
from mfu_doctor.capture.loop.loops import Loop

_PATIENCE = 4 * LONGEST_CYCLE  # beats; a loop that has not repeated itself by then is not looked at any more


class Turns(Struct):
    """Follows the optimizers of a loop until it has repeated itself.

    Attributes:
        turn: the optimizers of one turn in their order; empty: not known, or only one steps.
        loops: around the first step of each optimizer, innermost first.
    """

    turn: tuple[Hashable, ...] = ()
    loops: dict[Hashable, tuple[Loop, ...]] = field(default_factory=dict)
    _seen: list[Hashable] = field(default_factory=list)
    _over: bool = False
    _slower: Hashable | None = None

    def beat(self, key: Hashable, anchor: Hashable | None, since: int) -> int:
        """An optimizer has stepped. Returns how often the anchor steps in a turn if this one counts the turns instead, else 0.

        Args:
            key: the optimizer.
            anchor: the one that counts the steps so far.
            since: how often it has stepped.
        """
        if key == self._slower:
            self._slower = None
            return self.turn.count(anchor)
        if self._over or (key == anchor and not self._seen):
            return 0
        self._seen = self._seen or [anchor] * min(since, LONGEST_CYCLE)
        self._seen.append(key)
        self.turn = cycle_at_end(self._seen)
        if not self.turn:
            self._over = len(self._seen) > _PATIENCE
            return 0
        self._over, self._seen = True, []
        once = [other for other in self.turn if self.turn.count(other) == 1]
        if self.turn.count(anchor) > 1 and once and self._own_loop(anchor, once[-1]):
            self._slower = once[-1]
            return self.beat(key, anchor, since) if key == self._slower else 0
        return 0

    def updates(self, anchor: Hashable | None) -> dict[Hashable, float]:
        """How often each optimizer steps for one step of the anchor; empty if the turn is not known."""
        counts = Counter(self.turn)
        return {key: count / counts[anchor] for key, count in counts.items()} if counts[anchor] else {}

    def _own_loop(self, anchor: Hashable, other: Hashable) -> bool:
        """Whether the anchor steps in a loop that the other one is not in, as far as anything tells."""
        inner, around = self.loops.get(anchor, ()), self.loops.get(other, ())
        return not inner or not around or inner[0] not in around
