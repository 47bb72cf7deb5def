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

    def go_like(self, other: Points) -> bool:
        """Whether each point has the same sources as there, and is the same collective."""
        return all(
            np.array_equal(mine, theirs)
            for mine, theirs in (
                (self.pointer, other.pointer),
                (self.source, other.source),
                (self.row, other.row),
            )
        )


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


class Sources(Struct, frozen=True):
    """The sources of some points side by side.

    Attributes:
        place: of each in `Points.source` and `Points.delay`.
        begins: where those of the next point that has any begin.
        sourced: which of the points have any.
    """

    place: Ints
    begins: Ints
    sourced: Ints


def sources_of(points: Points, chosen: Ints) -> Sources:
    """The sources of these points."""
    begin = points.pointer[chosen]
    count = points.pointer[chosen + 1] - begin
    sourced = np.flatnonzero(count)
    begins = np.cumsum(count) - count
    place = np.repeat(begin - begins, count) + np.arange(int(count.sum()))
    return Sources(place, begins[sourced], sourced)
