"""Which collectives of the ranks are the same one.

By their number in the group where the trace has it; else by their order in the group, with kind and size as proof; sends and
receives by their order between the same two ranks. What is not recorded on another rank stays unmatched, and is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace

from mfu_doctor.job.across.alignment import NOWHERE, Sequence, places_in
from mfu_doctor.job.across.table import RECEIVE, SEND, TO_ONE, UNKNOWN, UNREAD, Ints, Mask, Table, one_key

BY_NUMBER = "number in the group"
BY_ORDER = "order in the group"
BY_PAIR = "order between two ranks"
# Kinds whose members all put in the same number of bytes, so that a size proves that two are the same.
EVEN = ("allreduce", "reducescatter", "broadcast", "reduce")


class Matched(Struct, frozen=True):
    """Collectives that at least two ranks recorded, in order of their ends.

    Attributes:
        row: rows of the table, one collective after another, shape (m,).
        start: where each collective begins in `row`, and m, shape (c + 1,).
        complete: whether all of its ranks are there, shape (c,).
        channel: what it was matched in: its group, or one direction between two ranks, shape (c,).
        before: the one before it among the same ranks, -1 for the first, shape (c,).
        methods: how they were matched -> how many.
        unmatched: why rows were not -> how many rows.
    """

    row: Ints
    start: Ints
    complete: Mask
    channel: Ints
    before: Ints
    methods: dict[str, int] = field(default_factory=dict)
    unmatched: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def head(self) -> Ints:
        """One row of each collective, shape (c,)."""
        return self.row[self.start[:-1]]

    @property
    def complete_rows(self) -> Ints:
        """The rows of collectives that all of their ranks are read of: only there waiting is told from transfer."""
        return self.row[self.complete[self.of_row]]

    @property
    def of_row(self) -> Ints:
        """For each entry of `row` the collective that it is in, shape (m,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.start))

    def without(self, wrong: Mask, reason: str) -> Matched:
        """The same without some of the collectives, whose rows are unmatched for this reason."""
        if not wrong.any():
            return self
        kept = np.flatnonzero(~wrong)
        place = np.append(np.cumsum(~wrong) - 1, UNKNOWN)
        before = self.before.copy()
        while (gone := (before != UNKNOWN) & wrong[before]).any():
            before[gone] = self.before[before[gone]]
        count = np.diff(self.start)
        lost = {**self.unmatched, reason: self.unmatched.get(reason, 0) + int(count[wrong].sum())}
        return replace(
            self,
            row=self.row[~wrong[self.of_row]],
            start=np.concatenate([[0], np.cumsum(count[kept])]).astype(np.int64),
            complete=self.complete[kept],
            channel=self.channel[kept],
            before=place[before[kept]],
            unmatched=lost,
        )

    def members(self, collective: int) -> Ints:
        """The rows of one collective."""
        return self.row[self.start[collective] : self.start[collective + 1]]


class _Channel(Struct, frozen=True):
    """Rows that can only be matched with each other: of a group, or of one direction between two ranks."""

    rows: Ints  # in order of rank, and of arrival within a rank
    size: int | None  # how many ranks take part
    method: str


class _Matched(Struct, frozen=True):
    """The keys of a channel: those from `first` up to the next one's."""

    first: int
    channel: _Channel


def match(table: Table, *, numbered_steps: bool) -> Matched:
    """Match the collectives of all ranks.

    Args:
        table: all of them.
        numbered_steps: whether the same number means the same step on all ranks.
    """
    key = np.full(len(table), NOWHERE)
    unmatched: Counter[str] = Counter()
    matched: list[_Matched] = []
    used = 0
    sequence = _sequence(table, numbered_steps)
    for channel in _channels(table, unmatched):
        found = _keys(table, channel, sequence)
        known = found != NOWHERE
        unmatched["the place among the others of the group is not known"] += int((~known).sum())
        if not known.any():
            continue
        numbers = found[known] - found[known].min() + used
        key[channel.rows[known]] = numbers
        matched.append(_Matched(used, channel))
        used = int(numbers.max()) + 1
    return _collected(table, key, matched, unmatched)


def _channels(table: Table, unmatched: Counter[str]) -> Iterator[_Channel]:
    """Groups of rows to match, each with how; rows that have no partner are counted."""
    pair = table.is_kind(SEND, RECEIVE) & (table.peer != UNKNOWN)
    unmatched["the rank at the other end was not read"] += int((pair & (table.peer == UNREAD)).sum())
    pair_rows = np.flatnonzero(pair & (table.peer != UNREAD))
    sends = table.is_kind(SEND)[pair_rows]
    one, other = table.rank[pair_rows], table.peer[pair_rows]
    ends = one_key(table.group[pair_rows], np.where(sends, one, other), np.where(sends, other, one))
    for rows in _split(pair_rows, ends):
        yield _Channel(rows, 2, BY_PAIR)
    to_one = table.is_kind(*TO_ONE) & ~pair
    rest = np.flatnonzero(~pair)
    for rows in _split(rest, one_key(table.group[rest], to_one[rest])):
        group = table.groups[int(table.group[rows[0]])]
        if len(group.members) < 2:
            reason = "no other rank of the group was read"
            unmatched[reason] += 0 if group.size == 1 else len(rows)
        else:
            yield _Channel(rows, group.size, BY_NUMBER if (table.sequence[rows] >= 0).all() else BY_ORDER)


def _split(rows: Ints, keys: Ints) -> Iterator[Ints]:
    """The rows of each different key, in their order."""
    if not len(rows):
        return
    order = np.argsort(keys, kind="stable")
    yield from np.split(rows[order], np.flatnonzero(np.diff(keys[order])) + 1)


def _keys(table: Table, channel: _Channel, sequence: Sequence) -> Ints:
    """For each row of a channel a number that is the same for the same collective."""
    rows = channel.rows
    if channel.method == BY_NUMBER:
        number = table.sequence[rows]
        again = np.zeros(len(rows), np.int64)  # several kernels of one call have one number
        same = (np.diff(number) == 0) & (np.diff(table.rank[rows]) == 0)
        for at in np.flatnonzero(same).tolist():
            again[at + 1] = again[at] + 1
        return number * (int(again.max()) + 1) + again
    ranks, begins = np.unique(table.rank[rows], return_index=True)
    each = np.split(rows, begins[1:])
    longest = max(each, key=len)
    found = [places_in(sequence.of(longest), sequence.of(one)) for one in each]
    return np.concatenate(found) if len(ranks) > 1 else np.full(len(rows), NOWHERE)


def _sequence(table: Table, numbered_steps: bool) -> Sequence:
    """What tells the rows of the table apart."""
    two_ended = table.is_kind(*TO_ONE)
    even = (table.is_kind(*EVEN) & _sizes_tell(table)) | two_ended
    sign = np.where(two_ended, len(table.kinds), table.kind) * (int(table.size.max(initial=0)) + 2)
    step = table.step if numbered_steps else np.full(len(table), UNKNOWN)
    return Sequence(sign + np.where(even, table.size + 1, 0), step, table.end)


def _sizes_tell(table: Table) -> Mask:
    """Whether sizes tell the collectives of a group and kind apart, shape (n,): not if some ranks were recorded without them."""
    key = one_key(table.group, table.kind)
    without, of_all = np.bincount(key, table.size < 0), np.bincount(key)
    told: Mask = ((without == 0) | (without == of_all))[key]
    return told


def _collected(table: Table, key: Ints, matched: list[_Matched], unmatched: Counter[str]) -> Matched:
    """Rows of equal keys as collectives, if at least two ranks have them and they are of one kind."""
    rows = np.flatnonzero(key != NOWHERE)
    rows = rows[np.argsort(key[rows], kind="stable")]
    _, start, count = np.unique(key[rows], return_index=True, return_counts=True)
    alone = count < 2
    unmatched["recorded by no other rank"] += int(count[alone].sum())
    kind = np.where(table.is_kind(*TO_ONE), len(table.kinds), table.kind)[rows]
    differs = _reduced(np.minimum, kind, start) != _reduced(np.maximum, kind, start)
    unmatched["the ranks do not agree on the kind"] += int(count[differs & ~alone].sum())
    keep = np.flatnonzero(~alone & ~differs)
    keep = keep[np.argsort(_reduced(np.maximum, table.end[rows], start)[keep], kind="stable")]
    first = np.array([one.first for one in matched], np.int64)
    keys = key[rows[start[keep]]]
    members = [rows[a : a + n] for a, n in zip(start[keep].tolist(), count[keep].tolist(), strict=True)]
    row = np.concatenate([np.empty(0, np.int64), *members])
    begin = np.concatenate([[0], np.cumsum(count[keep])]).astype(np.int64)
    index = np.searchsorted(first, keys, side="right") - 1
    channel = [matched[i].channel for i in index.tolist()]
    return Matched(
        row=row,
        start=begin,
        complete=np.array([one.size == n for one, n in zip(channel, count[keep].tolist(), strict=True)], np.bool_),
        channel=index,
        before=_before(index, keys, _signs(table.rank[row], begin)),
        methods=dict(Counter(one.method for one in channel)),
        unmatched={reason: n for reason, n in unmatched.items() if n},
    )


def _signs(rank: Ints, start: Ints) -> Ints:
    """A number for each collective that is the same if its members are, shape (c, 3)."""
    begins = start[:-1]
    return np.column_stack([np.diff(start), _reduced(np.add, rank, begins), _reduced(np.add, rank * rank, begins)])


def _before(channel: Ints, keys: Ints, members: Ints) -> Ints:
    """For each collective the one before it in its channel with the same members, -1 for the first."""
    which = np.column_stack([channel, members])
    order = np.lexsort((keys, *which.T))
    same = (which[order[1:]] == which[order[:-1]]).all(axis=1)
    before = np.full(len(keys), UNKNOWN)
    before[order[1:]] = np.where(same, order[:-1], UNKNOWN)
    return before


def _reduced(operation: np.ufunc, values: Ints, start: Ints) -> Ints:
    """The operation over each run of `values`."""
    reduced: Ints = operation.reduceat(values, start) if len(start) else np.empty(0, values.dtype)
    return reduced
