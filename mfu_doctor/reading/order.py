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

# The values of a key in some rows: of most keys few are ever looked at.
Key = Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]]

_AT_ONCE = 1 << 16  # rows: what is made of a whole column on the way to another one would be as large as that


def order_by(first: npt.NDArray[np.int64], *others: Key) -> npt.NDArray[np.int64]:
    """Row order by the first key, among equal ones by the next, and so on; rows that are equal in all stay as they were.

    Files are nearly sorted by time, which a stable sort of one column uses. Few events share their times: only these are
    sorted again, and only their later keys are looked at.
    """
    order = np.argsort(first, kind="stable")
    equal = np.empty(max(len(order) - 1, 0), np.bool_)  # to the row before, in all keys so far
    for at in range(0, len(equal), _AT_ONCE):
        some = first[order[at : at + _AT_ONCE + 1]]
        equal[at : at + _AT_ONCE] = some[1:] == some[:-1]
    for key in others:
        ends = np.flatnonzero(equal)
        if not len(ends):
            break
        begins_run = np.ones(len(order), np.bool_)
        begins_run[1:] = ~equal
        tied = distinct(np.concatenate((ends, ends + 1)))
        rows = order[tied]
        order[tied] = rows[np.lexsort((key(rows), np.cumsum(begins_run, dtype=np.int32)[tied]))]
        equal[ends] = key(order[ends]) == key(order[ends + 1])
    return order


def ranks(values: Iterable[T], key: Callable[[T], Any]) -> npt.NDArray[np.int64]:
    """Position of each value among all of them when sorted, shape (count + 1,); the last one, -1, is that of no value."""
    listed = list(values)
    rank = np.full(len(listed) + 1, -1, np.int64)
    rank[sorted(range(len(listed)), key=lambda i: key(listed[i]))] = np.arange(len(listed))
    return rank


def renumbered(codes: npt.NDArray[Any], values: Sequence[T]) -> tuple[T, ...]:
    """Change the codes of a column to such in order of their first row, -1 staying -1; what they then stand for."""
    is_new = np.ones(len(values) + 1, np.bool_)  # one more, for -1
    is_new[-1] = False
    used: list[int] = []
    for at in range(0, len(codes), _AT_ONCE):
        some = codes[at : at + _AT_ONCE]
        found = some[is_new[some]]
        if len(found):
            is_new[found] = False
            used += dict.fromkeys(found.tolist())
    new = np.full(len(values) + 1, -1, codes.dtype)
    new[used] = np.arange(len(used))
    recode(codes, new)
    return tuple(values[i] for i in used)


def narrowed(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A column of whole numbers in as little memory as holds them: half of it, or that of one value if all are equal."""
    if len(column) and (column == column[0]).all():
        return np.broadcast_to(column[:1].copy(), column.shape)
    fits = np.iinfo(np.int32)
    is_narrow = fits.min <= column.min(initial=0) and column.max(initial=0) <= fits.max
    return column.astype(np.int32, copy=False) if is_narrow else column


def taken(column: npt.NDArray[Any], rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """These rows of a column; of one in which all are equal, too, no copy is made."""
    if column.strides == (0,):
        return column[: len(rows)]
    found = np.empty(len(rows), column.dtype)
    for at in range(0, len(rows), _AT_ONCE):
        # in place, as no other mode is
        np.take(column, rows[at : at + _AT_ONCE], out=found[at : at + _AT_ONCE], mode="clip")
    return found


def recode(codes: npt.NDArray[Any], new: npt.NDArray[Any]) -> None:
    """Change each code of a column to what stands at its place among the new ones; at the last place is that of -1."""
    for at in range(0, len(codes), _AT_ONCE):
        some = codes[at : at + _AT_ONCE]
        some[:] = new[some]
