"""Waiting for ranks that come later, told apart from moving data: only all arrivals together show which is which.

A rank waits from its own arrival to the last one, and what follows until it leaves is the transfer. Several collectives of a rank
can wait at once; such time is counted with the one that it came to first.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from mfu_doctor.job.across.clock import Clocks
from mfu_doctor.job.across.matching import Matched
from mfu_doctor.job.across.table import SEND, Ints, Mask, Table

# Who only gives need not wait for those that take.
_LEFT_EARLY = (SEND, "broadcast", "reduce", "gather", "scatter")


class Waits(Struct, frozen=True):
    """Arrivals on the common clock, and what each rank waits.

    Attributes:
        arrive: of each row of the table, shape (n,).
        end: likewise.
        wait: until the last rank was there, 0 where nothing was matched, shape (n,).
        counted: the part of `wait` in which no earlier collective of the rank waits, shape (n,).
        exposed: the part of `counted` in which the rank computes nothing, at least, shape (n,).
        last: of each collective the row that came last, shape (c,).
        ahead: rows that left before the last one came, and could: they sent, and did not wait; shape (n,).
    """

    arrive: Ints
    end: Ints
    wait: Ints
    counted: Ints
    exposed: Ints
    last: Ints
    ahead: Mask

    @property
    def transfer(self) -> Ints:
        """What is left of each row's time without its wait, shape (n,)."""
        return self.end - self.arrive - self.wait


def waits_of(table: Table, matched: Matched, clocks: Clocks) -> Waits:
    """The waits of all ranks."""
    arrive, end = clocks.aligned(table, table.arrive), clocks.aligned(table, table.end)
    wait = np.zeros(len(table), np.int64)
    last, ahead = np.empty(0, np.int64), np.zeros(len(table), np.bool_)
    if len(matched):
        times = arrive[matched.row]
        order = np.lexsort((times, matched.of_row))
        last = matched.row[order[matched.start[1:] - 1]]
        came_last = last[matched.of_row]
        late = arrive[came_last] - end[matched.row]
        sure = late > clocks.unsure_ns(
            table.rank[came_last], table.rank[matched.row]
        )  # else it need not have left before
        ahead[matched.row] = table.is_kind(*_LEFT_EARLY)[matched.row] & sure
        until = _waited_until(matched, (arrive, end), last, ahead)
        wait[matched.row] = np.clip(until - times, 0, (end - arrive)[matched.row])
    counted = _counted_once(table, arrive, wait)
    # What is computed beside a collective was issued before it was waited for, so the exposed part is its end.
    exposed = np.clip(table.exposed - (end - arrive - wait), 0, counted)
    return Waits(arrive, end, wait, counted, exposed, last, ahead)


def _waited_until(matched: Matched, times: tuple[Ints, Ints], last: Ints, ahead: Mask) -> Ints:
    """When the last of those was there that came before a rank left, shape (m,)."""
    arrive, end = times
    until = arrive[last][matched.of_row]
    for at in np.flatnonzero(ahead[matched.row]).tolist():
        row = matched.row[at]
        others = arrive[matched.members(int(matched.of_row[at]))]
        until[at] = others[others <= end[row]].max(initial=int(arrive[row]))
    return until


def _counted_once(table: Table, arrive: Ints, wait: Ints) -> Ints:
    """The part of each wait after all earlier ones of its rank have ended."""
    if not len(table):
        return wait
    begin = arrive - arrive.min()
    beyond = int((begin + wait).max()) + 1  # ranks lie one behind the other in the running maximum
    ends = begin + wait + table.rank * beyond
    before = np.concatenate([[0], np.maximum.accumulate(ends)[:-1]]) - table.rank * beyond
    counted: Ints = np.clip(begin + wait - np.maximum(begin, before), 0, None)
    return np.where(wait > 0, counted, 0)
