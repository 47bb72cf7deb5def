"""The shortest step of ranks that meet: in the long run theirs is one step, so it is that of the busiest stream of any of them.

What a stream has to do is the rank's own work, and its collectives as long as they take when all are there: waiting for others
keeps no stream busy, for it goes when they come sooner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mfu_doctor.job.across.levels import Meetings
from mfu_doctor.job.across.table import Floats, Ints, Table
from mfu_doctor.job.summary import Reach


class Floors:
    """What no replay of a job goes below.

    Args:
        table: the collectives.
        meetings: how its rows meet.
        reaches: the unchanged replay of each rank.
        transfer: nanoseconds that each row takes once all are there.
    """

    def __init__(self, table: Table, meetings: Meetings, reaches: Sequence[Reach], transfer: Floats) -> None:
        self._rows = tuple(zip(table.first[:-1].tolist(), table.first[1:].tolist(), strict=True))
        self._meeting = _meeting(table, meetings, len(reaches))
        measured = np.array([reach.measured_ns for reach in reaches])
        least = self._least(reaches, transfer, None)
        # Work on both sides of an edge can make a stream look busier than its steps are long.
        self._share = [min(float(measured[of].mean()) / max(float(least[of].max()), 1.0), 1.0) for of in self._meeting]

    def applied(self, steps: Floats, reaches: Sequence[Reach], transfer: Floats, saved: Floats | None) -> Floats:
        """The mean steps of ranks, longer where those that meet would have a step below their floor.

        Args:
            steps: mean step of each rank, shape (ranks,).
            reaches: the replay of each, changed or not.
            transfer: nanoseconds that each row takes once all are there.
            saved: nanoseconds less that a rank needs for itself before each row; None: none.
        """
        least, out = self._least(reaches, transfer, saved), steps.copy()
        for of, part in zip(self._meeting, self._share, strict=True):
            mean, floor = float(steps[of].mean()), float(least[of].max()) * part
            if 0 < mean < floor:
                out[of] *= floor / mean
        return out

    def _least(self, reaches: Sequence[Reach], transfer: Floats, saved: Floats | None) -> Floats:
        """What the busiest stream of each rank does in the mean step: what is saved may be all of it."""
        least = np.zeros(len(reaches))
        for rank, (reach, (first, last)) in enumerate(zip(reaches, self._rows, strict=True)):
            if reach.busy is not None:
                less = 0.0 if saved is None else float((saved[first:last] * reach.busy.often).sum())
                least[rank] = max(reach.busy.least_ns(transfer[first:last]) - less, 0.0)
        return least


def _meeting(table: Table, meetings: Meetings, ranks: int) -> tuple[Ints, ...]:
    """Ranks that meet each other, or the same others; each rank is in one of these."""
    rows = np.flatnonzero(~meetings.alone)
    rows = rows[np.argsort(meetings.item[rows], kind="stable")]
    least = np.arange(ranks)
    begins = np.flatnonzero(np.diff(meetings.item[rows], prepend=-1))
    of_rows, counts = table.rank[rows], np.diff(np.append(begins, len(rows)))
    while len(rows):
        found = least.copy()
        np.minimum.at(found, of_rows, np.repeat(np.minimum.reduceat(least[of_rows], begins), counts))
        if np.array_equal(found, least):
            break
        least = found
    return tuple(np.flatnonzero(least == one) for one in np.unique(least).tolist())
