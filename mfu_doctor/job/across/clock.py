"""The clocks of the ranks brought together: the members of an all-reduce, and of its like, leave it together.

Where ranks leave at different times, their clocks differ. The members of a group give differences between its ranks; groups that
share ranks tie all of them together. What is left after that is the resolution: no arrival is known better. Ranks of one machine
have one clock, so there an offset below the resolution is none. A clock that drifts gives a line over a long recording. Ranks
that share no collective are tied by the machine that they are on, or by messages both ways.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.job.across.matching import Matched
from mfu_doctor.job.across.messages import Room, rooms_of
from mfu_doctor.job.across.table import UNKNOWN, Floats, Ints, Mask, Table

# All of their members need what all others put in, so nobody leaves before the last has come.
TOGETHER = ("allreduce", "allgather", "reducescatter", "alltoall")
_RESOLVED = 0.9  # share of the collectives whose ends lie within the resolution
_LONG_NS = 10_000_000_000  # crystals drift by about 1 us a second: shorter recordings do not show it
_ENOUGH = 8  # ends for a line
_BETTER = 2.0  # a line must leave so many times less than a constant


class Clocks(Struct, frozen=True):
    """What to add to the times of each rank.

    Attributes:
        offset_ns: shape (ranks,).
        drift: nanoseconds more per nanosecond after `origin`, shape (ranks,).
        origin: what the drift counts from.
        tied: which ranks have a collective with the others that tells their clock, shape (ranks,).
        resolution_ns: how far ends lie apart after that, or how much room messages leave; None: nothing tells it.
        ends: how many collectives told it.
        rooms: how many pairs of ranks are tied by their messages alone.
        hosts: the machine of each rank, None if it is not known.
    """

    offset_ns: Floats
    drift: Floats
    origin: int
    tied: Mask
    resolution_ns: float | None
    ends: int
    rooms: int = 0
    hosts: tuple[str | None, ...] = ()

    def unsure_ns(self, one: Ints, other: Ints) -> Floats:
        """How much later a time of one rank may be than a time of another that is said to be equal; shape of both."""
        host = np.array(
            [self.hosts.index(host) if host is not None else UNKNOWN - i for i, host in enumerate(self.hosts)]
        )
        unsure: Floats = np.where(host[one] == host[other], 0.0, self.resolution_ns or 0.0)
        return unsure

    def aligned(self, table: Table, times: Ints) -> Ints:
        """Times of rows of the table, shape (n,), on the common clock."""
        correction = self.offset_ns[table.rank] + self.drift[table.rank] * (times - self.origin)
        return times + np.rint(correction).astype(np.int64)


def disproved(table: Table, matched: Matched, clocks: Clocks) -> Mask:
    """Collectives that some left before others came to them, beyond what clocks leave open: they are not the same; shape (c,).

    The resolution is that of half of the collectives: wrong ones would widen it until nothing contradicts it.
    """
    if not len(matched):
        return np.zeros(0, np.bool_)
    arrive, end = clocks.aligned(table, table.arrive)[matched.row], clocks.aligned(table, table.end)[matched.row]
    begins = matched.start[:-1]
    early = np.maximum.reduceat(arrive, begins) - np.minimum.reduceat(end, begins)
    telling = table.is_kind(*TOGETHER)[matched.head]
    if not telling.any():
        return telling
    apart = np.maximum.reduceat(end, begins) - np.minimum.reduceat(end, begins)
    wrong: Mask = telling & (early > np.median(apart[telling]))
    return wrong


class _Tie(Struct, frozen=True):
    """How far the clock of `other` is behind that of `one`, by the ends of their collectives."""

    one: int
    other: int
    at: Ints
    behind: Ints


def clocks_of(table: Table, matched: Matched, hosts: tuple[str | None, ...]) -> Clocks:
    """The clocks of all ranks, as far as their collectives tell.

    Args:
        table: the collectives.
        matched: which are the same.
        hosts: the machine of each rank, None if it is not known.
    """
    ranks, origin = len(hosts), int(table.end.min()) if len(table) else 0
    telling = np.flatnonzero(table.is_kind(*TOGETHER)[matched.head])
    found = _solved(_ties(table, matched, telling) if len(telling) else [], ranks, origin)
    clocks = Clocks(found.offset, found.drift, origin, found.tied, None, len(telling), hosts=hosts)
    if len(telling):
        settled = _one_clock_per_host(found.offset, found.drift, hosts, _spread(table, matched, telling, clocks))
        clocks = replace(clocks, offset_ns=settled)
    _joined(clocks, found.part, _of_machines(hosts))
    apart = (
        found.part != found.part[:1]
    ).any()  # messages tell less than collectives and machines: only what these leave apart
    used = _joined(clocks, found.part, rooms_of(table, matched)) if apart else []
    unsure = [room.unsure_ns for room in used]
    if len(telling):
        unsure.append(_spread(table, matched, telling, clocks))
    return replace(clocks, resolution_ns=max(unsure, default=None), rooms=len(used))


def _of_machines(hosts: tuple[str | None, ...]) -> list[Room]:
    """The ranks of a machine have its clock."""
    of_host: dict[str, int] = {}
    same = [(of_host.setdefault(host, rank), rank) for rank, host in enumerate(hosts) if host is not None]
    return [Room(first, rank, 0.0, 0.0) for first, rank in same if first != rank]


def _joined(clocks: Clocks, part: Ints, rooms: Sequence[Room]) -> list[Room]:
    """Tie parts of the job together that share no collective, and return the rooms that did; `clocks` and `part` are changed."""
    used = []
    for room in rooms:
        one, other = part[room.one], part[room.other]
        if one == other:
            continue
        mine = part == other
        clocks.offset_ns[mine] += clocks.offset_ns[room.one] + room.behind_ns - clocks.offset_ns[room.other]
        clocks.tied[mine] = clocks.tied[part == one] = True
        part[mine] = one
        used.append(room)
    return used


def _ties(table: Table, matched: Matched, telling: Ints) -> list[_Tie]:
    """The ranks of each group tied to its first one."""
    of_row = matched.of_row
    chosen = np.isin(of_row, telling)
    rows, collective = matched.row[chosen], of_row[chosen]
    head = matched.head[collective]  # the first row of a collective is of its lowest rank
    rank, first = table.rank[rows], table.rank[head]
    apart = rank != first
    pair = first[apart] * (int(table.rank.max(initial=0)) + 1) + rank[apart]
    order = np.argsort(pair, kind="stable")
    behind, at = (table.end[head] - table.end[rows])[apart][order], table.end[rows][apart][order]
    names, begins = np.unique(pair[order], return_index=True)
    one, other = np.divmod(names, int(table.rank.max(initial=0)) + 1)
    parts = zip(one.tolist(), other.tolist(), np.split(at, begins[1:]), np.split(behind, begins[1:]), strict=True)
    return [_Tie(*part) for part in parts]


class _Solved(Struct, frozen=True):
    """Offset and drift of each rank against the lowest one that it is tied to, whether there is one, and in which part it is."""

    offset: Floats
    drift: Floats
    tied: Mask
    part: Ints


def _solved(ties: list[_Tie], ranks: int, origin: int) -> _Solved:
    """The clocks of ranks that share collectives, by the ties with most ends."""
    found = _Solved(np.zeros(ranks), np.zeros(ranks), np.zeros(ranks, np.bool_), np.arange(ranks))
    near: dict[int, list[tuple[int, float, float]]] = {}
    for tie in sorted(ties, key=lambda tie: -len(tie.at)):
        base, slope = _line(tie, origin)
        near.setdefault(tie.one, []).append((tie.other, base, slope))
        near.setdefault(tie.other, []).append((tie.one, -base, -slope))
    for begin in sorted(near):
        waiting = deque([] if found.tied[begin] else [begin])
        found.tied[begin] = True
        while waiting:
            rank = waiting.popleft()
            reached = [(other, base, slope) for other, base, slope in near[rank] if not found.tied[other]]
            for other, base, slope in reached:
                found.tied[other], found.part[other] = True, begin
                found.offset[other], found.drift[other] = found.offset[rank] + base, found.drift[rank] + slope
            waiting.extend(other for other, _, _ in reached)
    return found


def _line(tie: _Tie, origin: int) -> tuple[float, float]:
    """Offset at the origin and drift: a constant, unless the recording is long and a line leaves much less."""
    constant = float(np.median(tie.behind))
    span = int(tie.at.max() - tie.at.min())
    if span < _LONG_NS or len(tie.at) < _ENOUGH:
        return constant, 0.0
    early, late = np.array_split(np.argsort(tie.at, kind="stable"), 2)
    ends = [(float(np.median(tie.at[half])), float(np.median(tie.behind[half]))) for half in (early, late)]
    slope = (ends[1][1] - ends[0][1]) / (ends[1][0] - ends[0][0])
    base = float(np.median(tie.behind - slope * (tie.at - origin)))
    left = float(np.median(np.abs(tie.behind - base - slope * (tie.at - origin))))
    is_better = _BETTER * left <= float(np.median(np.abs(tie.behind - constant)))
    return (base, slope) if is_better else (constant, 0.0)


def _spread(table: Table, matched: Matched, telling: Ints, clocks: Clocks) -> float:
    """How far the ends of most collectives lie apart on the common clock."""
    end = clocks.aligned(table, table.end)[matched.row]
    apart = np.maximum.reduceat(end, matched.start[:-1]) - np.minimum.reduceat(end, matched.start[:-1])
    return float(np.quantile(apart[telling], _RESOLVED, method="higher"))


def _one_clock_per_host(offset: Floats, drift: Floats, hosts: tuple[str | None, ...], resolution: float) -> Floats:
    """Offsets without what the resolution cannot tell from the clock that the ranks of a machine share.

    The first rank of a machine stands for it. Ranks whose machine is not known are taken as one machine: offsets below the
    resolution are none there either.
    """
    settled = offset.copy()
    shared: dict[str | None, int] = {}
    for rank, host in enumerate(hosts):
        first = shared.setdefault(host, rank)
        if not drift[rank] and abs(offset[rank] - offset[first]) <= resolution:
            settled[rank] = settled[first]
    return settled
