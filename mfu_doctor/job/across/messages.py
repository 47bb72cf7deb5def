"""What messages tell of clocks: none is received before it was sent, so messages both ways leave little room between two."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from mfu_doctor.job.across.matching import Matched
from mfu_doctor.job.across.table import RECEIVE, SEND, Table


class Room(Struct, frozen=True):
    """How far the clock of `other` is behind that of `one`: by `behind_ns`, give or take `unsure_ns`."""

    one: int
    other: int
    behind_ns: float
    unsure_ns: float


def rooms_of(table: Table, matched: Matched) -> list[Room]:
    """The room between the clocks of ranks that sent to each other, the narrowest first; ranks that contradict it have none."""
    pairs = np.flatnonzero((np.diff(matched.start) == 2) & table.is_kind(SEND, RECEIVE)[matched.head])
    first, second = matched.row[matched.start[pairs]], matched.row[matched.start[pairs] + 1]
    is_sent = table.is_kind(SEND)
    known = is_sent[first] != is_sent[second]
    first, second = first[known], second[known]
    sender, receiver = np.where(is_sent[first], first, second), np.where(is_sent[first], second, first)
    least = table.arrive[sender] - table.end[receiver]  # so much at least the receiver's clock is behind
    ways: dict[tuple[int, int], float] = {}
    for way in zip(table.rank[sender].tolist(), table.rank[receiver].tolist(), least.tolist(), strict=True):
        ways[way[:2]] = max(ways.get(way[:2], -np.inf), way[2])
    found = [_room(one, other, low, -ways[other, one]) for (one, other), low in ways.items() if (other, one) in ways]
    return sorted((room for room in found if room.one < room.other and room.unsure_ns >= 0), key=lambda r: r.unsure_ns)


def _room(one: int, other: int, low: float, high: float) -> Room:
    return Room(one, other, (low + high) / 2, (high - low) / 2)
