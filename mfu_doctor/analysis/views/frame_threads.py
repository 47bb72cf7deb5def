"""The Python frames of one thread: which of them is innermost at a time, and which lies around another.

A trace with stacks has millions of frames. A thread holds the numbers of their rows alone, and what is asked of all of them is
worked out some at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.arrays.intervals import EMPTY, Intervals, union
from mfu_doctor.trace import Events, Trace

Int64 = npt.NDArray[np.int64]

_AT_ONCE = 1 << 16  # frames


class Thread(Struct, frozen=True, dict=True):
    """Frames of one thread, sorted by start.

    Attributes:
        events: the trace's.
        rows: those of the frames.
    """

    events: Events
    rows: npt.NDArray[np.int32]

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(self.rows)

    @property
    def name(self) -> npt.NDArray[np.int32]:
        """Ids of their names."""
        return self.events.name[self.rows]

    @property
    def start(self) -> Int64:
        """When each began."""
        return self.events.start[self.rows]

    @property
    def end(self) -> Int64:
        """When each ended."""
        return self.events.end[self.rows]

    def only(self, wanted: npt.NDArray[np.bool_]) -> Thread:
        """The same thread with those of its frames that are wanted."""
        return Thread(self.events, self.rows[wanted])

    def parts(self) -> Iterator[Thread]:
        """The same frames, some at a time."""
        for at in range(0, self.count, _AT_ONCE):
            yield Thread(self.events, self.rows[at : at + _AT_ONCE])

    def touching(self, where: Intervals) -> Thread:
        """Those of its frames that ran in this time."""
        return self.only(self.overlap_with(where) > 0)

    def overlap_with(self, where: Intervals) -> Int64:
        """How long each of its frames ran in this time, in nanoseconds."""
        found = np.empty(self.count, np.int64)
        for at, part in enumerate(self.parts()):
            found[at * _AT_ONCE : (at + 1) * _AT_ONCE] = where.overlap_with(part.start, part.end)
        return found

    def covered(self) -> Intervals:
        """When any of its frames ran."""
        each = [EMPTY, *(union(part.start, part.end) for part in self.parts())]
        return union(np.concatenate([some.start for some in each]), np.concatenate([some.end for some in each]))

    def named(self, index: Int64) -> npt.NDArray[np.int32]:
        """Ids of the names of these frames."""
        return self.events.name[self.rows[index]]

    def innermost(self, time: Int64) -> Int64:
        """Index of the innermost frame that covers each time, or -1."""
        begun = np.searchsorted(self.events.start, time, side="right").astype(np.int32)  # events
        return self._last_open(time, np.searchsorted(self.rows, begun))

    def around(self, index: Int64) -> Int64:
        """Index of the frame around each of these frames, or -1."""
        return self._last_open(self.events.start[self.rows[index]], index)

    @cached_property
    def _levels(self) -> tuple[Int64, ...]:
        """Level by level, the latest end in blocks of 2, 4, 8, ... frames, so that a search takes a few numpy calls."""
        levels, below = [], self.end
        while len(below) > 1:
            even = below if len(below) % 2 == 0 else np.append(below, np.iinfo(np.int64).min)
            below = np.maximum(even[::2], even[1::2])
            levels.append(below)
        return tuple(levels)

    def _latest(self, height: int, block: Int64) -> Int64:
        """The latest end in these blocks of a level; one of level 0 is a frame."""
        return self.events.end[self.rows[block]] if height == 0 else self._levels[height - 1][block]

    def _last_open(self, time: Int64, before: Int64) -> Int64:
        """Of the frames 0..before that have not ended at a time, the one that began last; -1 if there is none."""
        found = np.full(len(time), -1, np.int64)
        level, block = np.zeros(len(time), np.int64), before.astype(np.int64)
        # upwards: the last block of those left of `before` with a frame that has not ended
        for height in range(1 + len(self._levels)):
            odd = (found < 0) & ((block & 1) == 1)
            here = odd & (self._latest(height, np.maximum(block - 1, 0)) > time)
            found[here], level[here] = block[here] - 1, height
            block >>= 1
        # downwards: in that block the last such frame
        for height in range(len(self._levels), 0, -1):
            inside = (found >= 0) & (level == height)
            right = found[inside] * 2 + 1
            size = self.count if height == 1 else len(self._levels[height - 2])
            held = self._latest(height - 1, np.minimum(right, size - 1)) > time[inside]
            found[inside] = np.where(held & (right < size), right, right - 1)
            level[inside] = height - 1
        return found


def thread_of(trace: Trace, rows: Int64) -> Thread:
    """These rows of Python frames of one thread."""
    return Thread(trace.events, rows.astype(np.int32))
