"""Room for our own work in an interpreter of which the program may have made anything."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_DEPTH = 1000  # Python's own limit of recursion


@contextmanager
def at_hand(path: Sequence[str]) -> Iterator[None]:
    """Find modules in these places too, and have room for recursion; what the program set stands again afterwards."""
    missing, limit = [place for place in path if place not in sys.path], sys.getrecursionlimit()
    sys.path.extend(missing)
    if limit < _DEPTH:
        sys.setrecursionlimit(_DEPTH)
    try:
        yield
    finally:
        if limit < _DEPTH:
            sys.setrecursionlimit(limit)
        for place in missing:
            if place in sys.path:
                sys.path.remove(place)
