"""Groups of one kind compared by what their collectives take once all ranks are there."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.table import Floats, Ints, one_key

# Sister groups differ by less than this; and there are at least so many of them.
_SLOWER, _SISTERS = 1.5, 2
_LEAST_BYTES = 1 << 20  # small messages take a latency, which is restless


class SlowGroup(Struct, frozen=True):
    """The group that loses most against its sisters.

    Attributes:
        group: index into the groups of the table.
        kind: of the collective that it loses most in.
        theirs_ns: what one of these takes, the median.
        others_ns: the same in the sister groups.
        usual_ns: of each row of the table what it takes in the sister groups; infinite where there are none, shape (n,).
    """

    group: int
    kind: str
    theirs_ns: float
    others_ns: float
    usual_ns: Floats

    @property
    def times(self) -> float:
        """How many times as long it takes."""
        return self.theirs_ns / self.others_ns


def slow_groups(job: Job) -> SlowGroup | None:
    """The slowest group among sisters, if it is much slower than they are."""
    table, transfer = job.table, job.replay.transfer
    usual = np.full(len(table), np.inf)
    rows = np.sort(job.matched.complete_rows)
    rows = rows[table.size[rows] >= _LEAST_BYTES]
    named = list(dict.fromkeys((g.description, g.size) for g in table.groups if g.description))
    of_group = np.array([named.index((g.description, g.size)) if g.description else -1 for g in table.groups], np.int64)
    rows = rows[of_group[table.group[rows]] >= 0]
    best: tuple[float, int, str, float, float] | None = None
    keys = one_key(of_group[table.group[rows]], table.kind[rows], table.size[rows])
    order = np.argsort(keys, kind="stable")
    for mine in np.split(rows[order], np.flatnonzero(np.diff(keys[order])) + 1):
        groups, count, each = _medians(table.group[mine], transfer[mine])
        if len(groups) <= _SISTERS:
            continue
        middle = float(np.median(each))
        usual[mine] = middle
        lost = (each - middle) * count
        worst = int(lost.argmax())
        if middle > 0 and each[worst] > _SLOWER * middle and (best is None or lost[worst] > best[0]):
            kind = table.kinds[int(table.kind[mine[0]])]
            best = (float(lost[worst]), int(groups[worst]), kind, float(each[worst]), middle)
    return None if best is None else SlowGroup(*best[1:], usual)


def _medians(group: Ints, values: Floats) -> tuple[Ints, Ints, Floats]:
    """The groups, how many values each has, and the median of them."""
    order = np.lexsort((values, group))
    groups, begins, count = np.unique(group[order], return_index=True, return_counts=True)
    low, high = begins + (count - 1) // 2, begins + count // 2
    return groups, count, (values[order[low]] + values[order[high]]) / 2
