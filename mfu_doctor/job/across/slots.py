"""The same place of the program on all ranks: what a rank did there for itself, beside what the others did.

A slot is a collective's place in a step: its group's kind, the collective's kind, and its order there. Stages of a pipeline run
different programs, so each has its own. Time of a rank since its collective before, without all communication, is its own.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from msgspec import Struct

from mfu_doctor.job.across.accounts import Accounts
from mfu_doctor.job.across.matching import Matched
from mfu_doctor.job.across.table import RECEIVE, SEND, UNKNOWN, Floats, Ints, Mask, Table, one_key


class Slots(Struct, frozen=True):
    """Rows of the table by their place in the program.

    Attributes:
        slot: shape (n,), -1 if it has none.
        own: what the rank did for itself before each row, in nanoseconds, shape (n,).
        done: the same from the begin of the rank's first step, shape (n,).
        done_at_end: the same where the rank leaves each row, shape (n,).
        paced: rows that have a slot, and to which a rank comes when its work is done: for a receive it can be there, and wait,
            long before; shape (n,).
        stage: of each rank in its pipeline, 0 without one, shape (ranks,).
        stages: how many there are.
    """

    slot: Ints
    own: Ints
    done: Ints
    done_at_end: Ints
    paced: Mask
    stage: Ints
    stages: int


def slots_of(table: Table, matched: Matched, accounts: Accounts, step: Ints) -> Slots:
    """The slots of all rows.

    Args:
        table: the collectives.
        matched: which are the same.
        accounts: where time went.
        step: the step of each matched collective, shape (c,).
    """
    stage = stages_of(table, matched)
    slot = np.full(len(table), UNKNOWN)
    labels = {key: i for i, key in enumerate(dict.fromkeys(_label(table, i) for i in range(len(table.groups))))}
    label = np.array([labels[_label(table, i)] for i in range(len(table.groups))], np.int64)
    row, of_row = matched.row, matched.of_row
    order = _order(matched, step)
    to_later = table.peer[row] > table.rank[row]
    key = one_key(
        stage[table.rank[row]], label[table.group[row]], table.kind[row], to_later, step[of_row], order[of_row]
    )
    known = step[of_row] != UNKNOWN
    if known.any():
        slot[row[known]] = np.unique(key[known], return_inverse=True)[1].ravel()
    own, done, done_at_end = _own(table, accounts)
    paced = (slot != UNKNOWN) & ~table.is_kind(RECEIVE)
    return Slots(slot, own, done, done_at_end, paced, stage, int(stage.max(initial=0)) + 1)


def usual(slots: Slots, among: Mask, *, mean: bool = False, at: float = 0.5) -> Floats:
    """How much ranks have done for themselves at each row, by the rows of the same slot, shape (n,); NaN if there are none.

    Args:
        slots: of all rows.
        among: which rows are asked, shape (n,).
        mean: their mean, not a quantile.
        at: which quantile of them: 0.5 their median, 1 the most.
    """
    out = np.full(len(slots.slot), np.nan)
    rows = np.flatnonzero(among & slots.paced)
    if not len(rows):
        return out
    rows = rows[np.lexsort((slots.done[rows], slots.slot[rows]))]
    names, begins, count = np.unique(slots.slot[rows], return_index=True, return_counts=True)
    values = slots.done[rows].astype(np.float64)
    if mean:
        found = np.add.reduceat(values, begins) / count
    else:
        place = at * (count - 1)
        below = np.floor(place).astype(np.int64)
        low, high = values[begins + below], values[begins + np.ceil(place).astype(np.int64)]
        found = low + (high - low) * (place - below)
    table = np.full(int(slots.slot.max()) + 1, np.nan)
    table[names] = found
    asked = np.flatnonzero(slots.paced)
    out[asked] = table[slots.slot[asked]]
    return out


def stages_of(table: Table, matched: Matched) -> Ints:
    """The stage of each rank: its place among those that send to each other, in order of their numbers; 0 without any."""
    ranks = len(table.first) - 1
    chain = np.arange(ranks)
    rows = matched.row[table.is_kind(SEND, RECEIVE)[matched.row] & (table.peer[matched.row] >= 0)]
    pairs = np.unique(np.sort(np.column_stack([table.rank[rows], table.peer[rows]]), axis=1), axis=0)
    for one, other in pairs.tolist():
        low, high = sorted((chain[one], chain[other]))
        chain[chain == high] = low
    place = np.zeros(ranks, np.int64)
    seen: Counter[int] = Counter()
    for rank in range(ranks):
        place[rank] = seen[int(chain[rank])]
        seen[int(chain[rank])] += 1
    return place


def _label(table: Table, group: int) -> tuple[str | None, int | None]:
    one = table.groups[group]
    return (one.description, one.size)


def _order(matched: Matched, step: Ints) -> Ints:
    """How many collectives of the same ranks came before each in its step, shape (c,)."""
    order = np.zeros(len(matched), np.int64)
    following = np.full(len(matched), UNKNOWN)
    has = matched.before != UNKNOWN
    following[matched.before[has]] = np.flatnonzero(has)
    for first in np.flatnonzero(~has).tolist():
        at, count, now = first, 0, None
        while at != UNKNOWN:
            count = count + 1 if step[at] == now else 0
            order[at], now = count, step[at]
            at = int(following[at])
    return order


def _own(table: Table, accounts: Accounts) -> tuple[Ints, Ints, Ints]:
    """Time without communication since the row before on the same rank, and since its first step to a row's begin and end."""
    mine = ~accounts.is_communication
    total: Ints = accounts.at_arrival[:, mine].sum(axis=1)
    before = np.concatenate([[0], total[:-1]]) if len(total) else total
    first = table.first[:-1][np.diff(table.first) > 0]
    before[first] = 0
    begun = accounts.before_steps[:, mine].sum(axis=1)[table.rank]
    return np.maximum(total - before, 0), total - begun, accounts.at_end[:, mine].sum(axis=1) - begun
