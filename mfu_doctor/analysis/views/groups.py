"""What belongs together: the positions that share a code, found in one sort however many codes there are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def groups(codes: npt.NDArray[Any]) -> Iterator[tuple[int, Rows]]:
    """Each distinct code with the positions that have it, in order."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    edges = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    for a, b in pairwise([0, *edges.tolist(), len(order)]):
        if b > a:
            yield int(ordered[a]), order[a:b]


def on_each(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> Iterator[tuple[Rows, Rows]]:
    """For each distinct code of `one` the positions that have it there, and those in `other` (there may be none), in order."""
    there, none = dict(groups(other)), np.zeros(0, np.int64)
    for code, mine in groups(one):
        yield mine, there.get(code, none)


def members(codes: npt.NDArray[Any], count: int) -> list[Rows]:
    """For each code from 0 to `count` the positions that have it, in order; others are in none."""
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(count + 1))
    return [order[a:b] for a, b in pairwise(edges.tolist())]
