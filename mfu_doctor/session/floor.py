"""Which block of this process records: one at a time, because a second torch profiler would crash the process."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol


class Block(Protocol):
    """A recorder, as far as the others must know it."""

    site: str
    yields: bool

    @property
    def is_open_here(self) -> bool:
        """Whether its block is active in this process."""

    def give_way(self) -> bool:
        """Let another block take over; returns whether it can."""


_open: list[Block] = []  # in the order in which they came


def take_the_floor(block: Block) -> Block | None:
    """Let this block record, unless another one does: then that one is returned.

    The block is added before the others are looked at. So if two threads come at once, the first one in the list records, and no
    lock is needed, which a child could inherit locked.
    """
    _open.append(block)
    for other in tuple(_open):
        if other is block:
            break
        of_the_parent = not other.is_open_here
        if of_the_parent or (other.yields and other.give_way()):
            leave_the_floor(other)
        else:
            leave_the_floor(block)
            return other
    return None


def leave_the_floor(block: Block) -> None:
    """It records no more."""
    with suppress(ValueError):  # another thread may have let it go
        _open.remove(block)
