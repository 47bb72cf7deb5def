"""The cycle that a sequence repeats: of the optimizers of a loop, live and in a trace."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

LONGEST_CYCLE = 12
"""A loop that does something in every thirteenth round only is said to do it rarely: no step is that long."""


def cycle_at_end(keys: Sequence[Hashable]) -> tuple[Hashable, ...]:
    """The shortest cycle of different keys that the sequence ends with twice; empty if there is none."""
    for length in range(2, min(LONGEST_CYCLE, len(keys) // 2) + 1):
        last = tuple(keys[-length:])
        if last == tuple(keys[-2 * length : -length]) and len(set(last)) > 1:
            return last
    return ()
