"""Sets of half-open integer intervals as sorted numpy arrays: union, intersection, difference, length.

Every accounting question ("how long was the device idle while the host fetched data") is set algebra on intervals of
integer nanoseconds. Doing it on disjoint sorted arrays keeps every answer exact and every operation vectorised.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Int64: TypeAlias = npt.NDArray[np.int64]

_AT_ONCE = 1 << 14  # times: what is worked out on the way to an answer then stays in the processor's second-level cache


class Intervals(Struct, frozen=True):
    """Disjoint, sorted, non-empty half-open intervals ``[start, end)`` in nanoseconds; both arrays have shape (n,)."""

    start: Int64
    end: Int64

    @property
    def count(self) -> int:
        """Number of intervals."""
        return len(self.start)

    @property
    def total_ns(self) -> int:
        """Sum of the lengths, exact, in nanoseconds."""
        return int((self.end - self.start).sum())

    @property
    def lengths(self) -> Int64:
        """Length of each interval in nanoseconds, shape (n,)."""
        return self.end - self.start

    def clip(self, start: int, end: int) -> Intervals:
        """The part of the set inside ``[start, end)``."""
        first = int(np.searchsorted(self.end, start, side="right"))
        last = int(np.searchsorted(self.start, end, side="left"))
        lo = np.maximum(self.start[first:last], start)
        hi = np.minimum(self.end[first:last], end)
        keep = hi > lo
        return Intervals(lo[keep], hi[keep])

    def __or__(self, other: Intervals) -> Intervals:
        return union(np.concatenate((self.start, other.start)), np.concatenate((self.end, other.end)))

    def __and__(self, other: Intervals) -> Intervals:
        return _combine(self, other, 2)

    def __sub__(self, other: Intervals) -> Intervals:
        if not self.count or not other.count:
            return self
        lo, hi = int(min(self.start[0], other.start[0])), int(max(self.end[-1], other.end[-1]))
        return self & complement(other, lo, hi)

    def overlap_with(self, start: Int64, end: Int64) -> Int64:
        """Length of the overlap of each query ``[start, end)`` with the set, shape of `start`, in nanoseconds.

        The queries need not be sorted or disjoint.
        """
        overlap = np.zeros(len(end), np.int64)
        before = self._before()
        for at in range(0, len(end) if self.count else 0, _AT_ONCE):
            part = slice(at, at + _AT_ONCE)
            overlap[part] = self._covered(end[part], before)
            overlap[part] -= self._covered(np.minimum(start[part], end[part]), before)
        return overlap

    def covered_before(self, time: Int64) -> Int64:
        """Total length of the set before each time, in nanoseconds (the cumulative measure of the set)."""
        covered = np.zeros(len(time), np.int64)
        before = self._before()
        for at in range(0, len(time) if self.count else 0, _AT_ONCE):
            covered[at : at + _AT_ONCE] = self._covered(time[at : at + _AT_ONCE], before)
        return covered

    def _before(self) -> Int64:
        """Length of the set before each of its intervals."""
        return np.concatenate((np.zeros(1, np.int64), np.cumsum(self.lengths)))

    def _covered(self, time: Int64, before: Int64) -> Int64:
        """Length of the set, which is not empty, before each of a few times."""
        index = np.searchsorted(self.start, time, side="right")
        last = np.maximum(index - 1, 0)
        inside = np.minimum(time, self.end[last]) - self.start[last]
        return np.where(index > 0, before[last] + np.maximum(inside, 0), 0)

    def contains(self, time: Int64) -> npt.NDArray[np.bool_]:
        """Whether each time lies inside the set."""
        index = np.searchsorted(self.start, time, side="right") - 1
        found = index >= 0
        if not self.count:
            return found & False
        return found & (time < self.end[np.maximum(index, 0)])


EMPTY = Intervals(np.empty(0, np.int64), np.empty(0, np.int64))


def union(start: Int64, end: Int64) -> Intervals:
    """Union of arbitrary intervals (unsorted, overlapping, empty ones ignored)."""
    keep = end > start
    if not keep.all():
        start, end = start[keep], end[keep]
    if not len(start):
        return EMPTY
    if (start[1:] < start[:-1]).any():  # rows of a trace are in time order already
        order = np.argsort(start, kind="stable")
        start, end = start[order], end[order]
    reach = np.maximum.accumulate(end)
    first = np.concatenate((np.ones(1, np.bool_), start[1:] > reach[:-1]))
    index = np.flatnonzero(first)
    last = np.concatenate((index[1:] - 1, np.array([len(start) - 1])))
    return Intervals(start[index].astype(np.int64), reach[last].astype(np.int64))


def complement(covered: Intervals, start: int, end: int) -> Intervals:
    """The gaps of the set inside ``[start, end)``."""
    inside = covered.clip(start, end)
    lo = np.concatenate((np.array([start], np.int64), inside.end))
    hi = np.concatenate((inside.start, np.array([end], np.int64)))
    keep = hi > lo
    return Intervals(lo[keep], hi[keep])


def _combine(a: Intervals, b: Intervals, depth: int) -> Intervals:
    """Where at least `depth` of the two sets overlap, by one sweep over all boundaries."""
    if not a.count or not b.count:
        return EMPTY
    time = np.concatenate((a.start, b.start, a.end, b.end))
    delta = np.concatenate((np.ones(a.count + b.count, np.int8), -np.ones(a.count + b.count, np.int8)))
    order = np.lexsort((delta, time))
    time, level = time[order], np.cumsum(delta[order], dtype=np.int64)
    inside = level[:-1] >= depth
    lo, hi = time[:-1][inside], time[1:][inside]
    keep = hi > lo
    return union(lo[keep], hi[keep])
