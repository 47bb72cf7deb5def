"""Why a rank came late: its time since all left the collective before together, against the others' time since then.

All members leave a collective together, so from there to the next arrival each rank's time is its own. The account of that time,
minus the same of the other members in the middle, says what took longer, and sums to the lateness exactly. If it was another
group's collective that took longer, then whoever came last there is asked instead. If the ranks had not met before, the lateness
may be from before the recording: the begin of their accounts is a part of the difference, and says so.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.job.across.accounts import BEFORE_OWNER, Accounts
from mfu_doctor.job.across.clock import Clocks
from mfu_doctor.job.across.matching import Matched
from mfu_doctor.job.across.table import UNKNOWN, Floats, Ints, Mask, Table
from mfu_doctor.job.across.waits import Waits

_FORWARDED = 0.5  # of a lateness: if so much is another group's wait, the question goes on to that group
_LONGEST_TRAIL = 3  # a question is passed on through two to the power of so many groups
_MOST_OPEN = 64  # collectives of one group that are under way at once


class Lateness(Struct, frozen=True):
    """Of each collective: who came last, what it took longer for, and what the others waited.

    Attributes:
        owners: of the accounts, and `BEFORE_OWNER` as the last one.
        row: of the table: who came last, shape (c,).
        since: the collective after which all members were together, -1: they had not met before, shape (c,).
        more: nanoseconds longer than the other members in the middle, by owner, shape (c, o + 1).
        waited: sum over the other members of what they wait and no earlier collective explains, shape (c,).
        cause: the collective at which the lateness began: this one, or one of another group, shape (c,).
        spent: what each member did since all were together, by owner, shape (m, o + 1).
    """

    owners: tuple[str, ...]
    row: Ints
    since: Ints
    more: Floats
    waited: Ints
    cause: Ints
    spent: Ints

    @property
    def late(self) -> Floats:
        """How late the last rank was, shape (c,)."""
        total: Floats = self.more.sum(axis=1)
        return total


def lateness_of(table: Table, matched: Matched, waits: Waits, accounts: Accounts, clocks: Clocks) -> Lateness:
    """The lateness of the last rank of each collective."""
    since = _together(table, matched)
    spent = _spent(table, matched, since, accounts, clocks)
    more = longer_than(~np.zeros(len(matched.row), np.bool_), matched, waits, spent)
    waited = np.zeros(len(matched), np.int64)
    np.add.at(waited, matched.of_row, waits.counted[matched.row])
    found = Lateness((*accounts.owners, BEFORE_OWNER), waits.last, since, more, waited, np.arange(len(matched)), spent)
    return replace(found, cause=_causes(table, matched, waits, accounts, found))


def _partners(matched: Matched, since: Ints) -> Ints:
    """For each member of each collective its entry in the one that `since` names (-1: its own) and that has the same members."""
    of_row = matched.of_row
    named = np.where(since == UNKNOWN, np.arange(len(matched)), since)
    return matched.start[named[of_row]] + np.arange(len(matched.row)) - matched.start[of_row]


def _together(table: Table, matched: Matched) -> Ints:
    """For each collective the last one before it that all its members had left before any of them came to it, or -1."""
    since = matched.before.copy()
    arrive = table.arrive[matched.row]
    for _ in range(_MOST_OPEN):
        left = table.end[matched.row[_partners(matched, since)]]
        is_open = np.zeros(len(matched), np.bool_)
        np.logical_or.at(is_open, matched.of_row, left > arrive)
        is_open &= since != UNKNOWN
        if not is_open.any():
            break
        since[is_open] = matched.before[since[is_open]]
    return since


def _spent(table: Table, matched: Matched, since: Ints, accounts: Accounts, clocks: Clocks) -> Ints:
    """What each member did since all were together, by owner, shape (m, o + 1)."""
    row = matched.row
    met = (since != UNKNOWN)[matched.of_row]
    from_ = np.where(met[:, None], accounts.at_end[row[_partners(matched, since)]], 0)
    begin = accounts.begin + np.rint(clocks.offset_ns).astype(np.int64)
    apart = np.where(met, 0, (begin - begin.min())[table.rank[row]])
    return np.column_stack([accounts.at_arrival[row] - from_, apart])


def longer_than(others: Mask, matched: Matched, waits: Waits, spent: Ints) -> Floats:
    """The account of each last rank, minus the mean over the middle half of these other members; shape (c, o + 1).

    Args:
        others: who may be compared with, shape (m,); where that is nobody, all others are.
        matched: the collectives.
        waits: who came last to each.
        spent: the account of each member, shape (m, o + 1).
    """
    if not len(matched):
        return np.empty((0, spent.shape[1]))
    of_row, starts = matched.of_row, matched.start[:-1]
    is_last = matched.row == waits.last[of_row]
    compared = others & ~is_last
    compared |= ~is_last & ~np.logical_or.reduceat(compared, starts)[of_row]
    order = np.lexsort((spent.sum(axis=1), ~compared, of_row))
    place = np.arange(len(order)) - matched.start[of_row]
    count = np.add.reduceat(compared.astype(np.int64), starts)[of_row]
    outer = (count + 1) // 4
    middle = order[(place >= outer) & (place < count - outer)]
    begins = np.searchsorted(of_row[middle], np.arange(len(matched)))
    usual = np.add.reduceat(spent[middle], begins, axis=0) / np.bincount(of_row[middle])[:, None]
    last = np.flatnonzero(is_last)  # one in each collective, in their order
    return spent[last] - usual


def _causes(table: Table, matched: Matched, waits: Waits, accounts: Accounts, found: Lateness) -> Ints:
    """For each collective the one at which the lateness began: the question goes on while another group's wait is most of it."""
    collective = np.full(len(table), UNKNOWN)
    collective[matched.row] = matched.of_row
    by_others = found.more[:, :-1][:, accounts.is_communication].sum(axis=1)
    asked = (by_others > _FORWARDED * found.late) & (found.late > 0) & (found.waited > 0)
    cause = np.arange(len(matched))
    for at in np.flatnonzero(asked).tolist():
        rows = rows_since(table, matched, found, at)
        rows = rows[(waits.wait[rows] > 0) & (collective[rows] != UNKNOWN)]
        for_whom = np.bincount(table.rank[found.row[collective[rows]]], waits.wait[rows])
        if for_whom.max(initial=0) > _FORWARDED * by_others[at]:
            theirs = rows[table.rank[found.row[collective[rows]]] == for_whom.argmax()]
            cause[at] = collective[theirs[waits.wait[theirs].argmax()]]
    for _ in range(_LONGEST_TRAIL):
        cause = cause[cause]
    return cause


def rows_since(table: Table, matched: Matched, found: Lateness, at: int) -> Ints:
    """The rows of the rank that came last to a collective, from where all were together up to it."""
    row, since = int(found.row[at]), int(found.since[at])
    rank = table.rank[row]
    begin = int(table.first[rank])
    if since != UNKNOWN:
        mine = matched.members(since)
        begin = int(mine[table.rank[mine] == rank][0]) + 1
    return np.arange(begin, row)
