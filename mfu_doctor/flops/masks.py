"""How many query-key pairs of an attention a mask leaves, in closed form.

Causal masks and sliding windows are bands along a diagonal. The diagonal starts top left, where query i stands at key i, or
ends bottom right, where the last query stands at the last key: for lengths that differ, these are different masks.
"""

from __future__ import annotations

from msgspec import Struct


class Mask(Struct, frozen=True, kw_only=True):
    """A band of keys around each query's place on the diagonal.

    Attributes:
        behind: keys before its place that a query sees, None: all.
        ahead: keys after its place that a query sees, None: all; 0 is a causal mask.
        bottom_right: the diagonal ends bottom right, else it starts top left.
    """

    behind: int | None = None
    ahead: int | None = None
    bottom_right: bool = False

    def pairs(self, queries: int, keys: int) -> int:
        """Unmasked pairs of a sequence with this many queries and keys."""
        place = keys - queries if self.bottom_right else 0  # of the first query
        up_to = queries * keys if self.ahead is None else _ramp(queries, place + self.ahead + 1, keys)
        before = 0 if self.behind is None else _ramp(queries, place - self.behind, keys)
        return up_to - before


def square() -> Mask:
    """No mask."""
    return Mask()


def _ramp(count: int, first: int, top: int) -> int:
    """Sum of `first`, `first + 1`, ... over `count` terms, each at least 0 and at most `top`."""
    begin = min(max(-first, 0), count)  # terms before are 0
    end = min(max(top - first, begin), count)  # terms from here on are `top`
    growing = end - begin
    return growing * first + growing * (begin + end - 1) // 2 + (count - end) * top
