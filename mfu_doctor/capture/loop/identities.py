"""Numbers for the user's objects: the same object has one number, and no number is ever given twice.

`id()` is given again when an object has died: the optimizer of a new fold would seem to be that of the last one. Only weak
references are kept, so that an optimizer, a loader or a module dies as soon as its program drops it.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator

from msgspec import Struct, field


class Identities(Struct):
    """Gives numbers to objects."""

    _numbers: dict[int, tuple[int, weakref.ref[object] | None]] = field(default_factory=dict)  # by address
    _references: dict[int, weakref.ref[object] | None] = field(default_factory=dict)  # by number
    _next: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def of(self, thing: object) -> int:
        """The number of an object; one that cannot be referred to weakly is told by its address alone."""
        known = self._numbers.get(id(thing))
        if known is not None:
            number, reference = known
            if reference is None or reference() is thing:
                return number
            self._references.pop(number, None)
        number, reference = next(self._next), weakly(thing)
        self._numbers[id(thing)] = number, reference
        self._references[number] = reference
        return number

    def alive(self, number: int) -> bool:
        """Whether the object of this number still exists, as far as that can be known."""
        if number not in self._references:
            return False
        reference = self._references[number]
        return reference is None or reference() is not None


def weakly(thing: object) -> weakref.ref[object] | None:
    """A weak reference; None to an object that cannot have one."""
    try:
        return weakref.ref(thing)
    except TypeError:
        return None
