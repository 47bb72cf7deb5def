"""The points of all ranks in one table: where each comes to its collectives, where its steps begin, and what lies between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from mfu_doctor.job.across.table import UNKNOWN, Floats, Ints, Table
from mfu_doctor.job.summary import Reach


class Points(Struct, frozen=True):
    """The replays of all ranks (`Reach`), one after the other.

    Attributes:
        first: where each rank begins, and p, shape (ranks + 1,).
        since: shape (p,).
        pointer: shape (p + 1,).
        source: earlier points of the same rank.
        delay: shape of `source`.
        row: the row of the table that a point is, -1 if it is no collective, shape (p,).
    """

    first: Ints
    since: Floats
    pointer: Ints
    source: Ints
    delay: Floats
    row: Ints


def points_of(table: Table, reaches: Sequence[Reach], begin: Ints) -> Points:
    """The points of these replays, each of which begins at `begin`."""
    count = np.array([len(reach.since_ns) for reach in reaches], np.int64)
    first = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    sources = np.concatenate([np.diff(reach.pointer) for reach in reaches])
    rows = [
        np.where(reach.collective >= 0, reach.collective + at, UNKNOWN)
        for reach, at in zip(reaches, table.first.tolist(), strict=False)
    ]
    source = [reach.source + at for reach, at in zip(reaches, first.tolist(), strict=False)]
    return Points(
        first=first,
        since=np.concatenate([reach.since_ns + at for reach, at in zip(reaches, begin.tolist(), strict=True)]),
        pointer=np.concatenate([[0], np.cumsum(sources)]).astype(np.int64),
        source=np.concatenate(source).astype(np.int64),
        delay=np.concatenate([reach.delay_ns for reach in reaches]),
        row=np.concatenate(rows).astype(np.int64),
    )


class Gathered(Struct, frozen=True):
    """Some points with their sources side by side, ready to be reached again and again."""

    since: Floats
    source: Ints
    delay: Floats
    begins: Ints
    sourced: Ints

    def reached(self, left: Floats) -> Floats:
        """When they are reached, given when all earlier points were left; shape of `since`."""
        at = self.since.copy()
        if len(self.source):
            latest = np.maximum.reduceat(left[self.source] + self.delay, self.begins)
            at[self.sourced] = np.maximum(at[self.sourced], latest)
        return at


def gathered(points: Points, chosen: Ints) -> Gathered:
    """These points with their sources."""
    begin, count = points.pointer[chosen], np.diff(points.pointer)[chosen]
    sourced = np.flatnonzero(count)
    begins = np.cumsum(count) - count
    flat = np.repeat(begin - begins, count) + np.arange(int(count.sum()))
    return Gathered(points.since[chosen], points.source[flat], points.delay[flat], begins[sourced], sourced)
