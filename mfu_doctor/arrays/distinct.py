"""Distinct values of arrays of integers, in order.

Rows of a trace come sorted or nearly so. A stable sort then is one pass, where numpy's own functions for sets take a hundred
times as long: they look every value up in a table, or sort as if they knew nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[Any]
Positions = npt.NDArray[np.int64]


def distinct(values: Ints) -> Ints:
    """Each value once, sorted."""
    ordered = np.sort(values, kind="stable")
    return ordered[_begins(ordered)]


def numbered(values: Ints) -> tuple[Ints, Positions]:
    """Each value once, sorted, and where in that each value is: the first at the result of the second is `values`."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = _begins(ordered)
    which = np.empty(len(values), np.int64)
    which[order] = np.cumsum(begins) - 1
    return ordered[begins], which


def numbered_together(*columns: Ints) -> tuple[Positions, Positions]:
    """Where each distinct row of some columns is first, in order of their values, and which of these each row is."""
    which = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        of_column, mine = numbered(column)
        which = numbered(which * len(of_column) + mine)[1]
    first = np.zeros(int(which.max(initial=-1)) + 1, np.int64)
    first[which[::-1]] = np.arange(len(which) - 1, -1, -1)
    return first, which


def without(values: Ints, others: Ints) -> Ints:
    """Each value once, sorted, that is not among the others."""
    mine = distinct(values)
    return mine[np.isin(mine, others, invert=True)]


def places(known: Ints, asked: Ints) -> Positions:
    """Where each value stands among known ones, which are sorted and distinct; -1 where it is none of them."""
    if not len(known):
        return np.full(len(asked), -1, np.int64)
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.where(known[at] == asked, at, -1)


def _begins(ordered: Ints) -> npt.NDArray[np.bool_]:
    """Where in a sorted array a value is the first of its kind."""
    begins = np.ones(len(ordered), np.bool_)
    begins[1:] = ordered[1:] != ordered[:-1]
    return begins
