"""Waiting by polling: a thread asks again and again whether an event has happened, and launches nothing meanwhile.

`while not event.query(): pass` blocks the program like a synchronisation, but no call of it takes long. A few queries in a row
are no wait: PyTorch's allocator asks for the events of freed blocks whenever it needs memory.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.vocabulary import QUERY, rows_matching
from mfu_doctor.trace import CALL_CATEGORIES, Category, Trace
from mfu_doctor.units import NS_PER_US

Rows = npt.NDArray[np.int64]

_LEAST_QUERIES = 5
# The allocator's queries for a dozen freed blocks take less than half of this.
_LEAST_NS = 100 * NS_PER_US


class Polls(Struct, frozen=True):
    """Waits by polling, in time order, shape (n,)."""

    row: Rows  # the last query: the one that was answered
    start: Rows  # when the first query began, ns
    asked: Rows  # when the last query that was not answered began: what was waited for ended after it


def find_polls(trace: Trace, threads: Rows) -> Polls:
    """The polling loops of the threads that train; a watchdog's polling makes nobody wait."""
    found = [_of_thread(trace, track) for track in threads.tolist()]
    columns = np.concatenate([np.zeros((3, 0), np.int64), *found], axis=1)
    row, start, asked = columns[:, np.argsort(columns[0], kind="stable")]
    return Polls(row, start, asked)


def _of_thread(trace: Trace, track: int) -> Rows:
    """Polling loops of one thread: (3, n) of last query, start, last unanswered query."""
    events = trace.events
    rows = trace.rows(Category.CPU_OP, *CALL_CATEGORIES)
    rows = rows[events.track[rows] == track]
    query = np.isin(rows, rows_matching(trace, QUERY, rows))
    edges = np.flatnonzero(np.diff(np.concatenate(([False], query, [False])).astype(np.int8)))
    first, last = edges[::2], edges[1::2] - 1
    long = events.end[rows[last]] - events.start[rows[first]] >= _LEAST_NS
    first, last = (edge[long & (last - first + 1 >= _LEAST_QUERIES)] for edge in (first, last))
    return np.stack((rows[last], events.start[rows[first]], events.start[rows[np.maximum(last - 1, 0)]]))
