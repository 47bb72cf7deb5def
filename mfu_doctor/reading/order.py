"""One order for the events of a file and one code for each of their names, tracks and arguments, wherever in the file they stand.

A trace is a set of events: tools that merge, filter or convert traces write them in another order. Everything after reading
takes rows in their order and codes as they are counted, so both must depend on the events alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mfu_doctor.arrays.distinct import distinct

T = TypeVar("T", bound=Hashable)

Key = Callable[[], npt.NDArray[Any]]


def order_by(first: npt.NDArray[np.int64], *others: Key) -> npt.NDArray[np.int64]:
    """Row order by the first key, among equal ones by the next, and so on; rows that are equal in all stay as they were.

    Files are nearly sorted by time, which a stable sort of one column uses. Few events share their times: only these are
    sorted again, and the later keys are made only if there are any.
    """
    order = np.argsort(first, kind="stable")
    equal = first[order[1:]] == first[order[:-1]]  # to the row before, in all keys so far
    for key in others:
        ends = np.flatnonzero(equal)
        if not len(ends):
            break
        column = key()
        begins_run = np.ones(len(order), np.bool_)
        begins_run[1:] = ~equal
        tied = distinct(np.concatenate((ends, ends + 1)))
        rows = order[tied]
        order[tied] = rows[np.lexsort((column[rows], np.cumsum(begins_run[tied])))]
        equal[ends] = column[order[ends]] == column[order[ends + 1]]
    return order


def ranks(values: Iterable[T], key: Callable[[T], Any]) -> npt.NDArray[np.int64]:
    """Position of each value among all of them when sorted, shape (count + 1,); the last one, -1, is that of no value."""
    listed = list(values)
    rank = np.full(len(listed) + 1, -1, np.int64)
    rank[sorted(range(len(listed)), key=lambda i: key(listed[i]))] = np.arange(len(listed))
    return rank


def renumbered(codes: npt.NDArray[Any], values: Sequence[T]) -> tuple[npt.NDArray[Any], tuple[T, ...]]:
    """The same column with codes in order of their first row, -1 staying -1, and what these stand for."""
    first = np.full(len(values) + 1, len(codes), np.int64)  # one more, for -1
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    first[-1] = len(codes)
    used = np.argsort(first, kind="stable")[: np.count_nonzero(first < len(codes))]
    new = np.full(len(values) + 1, -1, codes.dtype)
    new[used] = np.arange(len(used))
    return new[codes], tuple(values[i] for i in used.tolist())
