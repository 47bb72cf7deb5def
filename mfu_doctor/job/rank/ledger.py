"""Where a rank's time went up to each collective: cumulative sums, so that the split of any part between two is a difference."""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.names.kernel_names import KINDS
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMMUNICATION, COMPUTE
from mfu_doctor.arrays.distinct import distinct, without
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.job.rank.collectives import Found
from mfu_doctor.job.summary import Collectives, Group, Ints, Ledger

OUTSIDE = "outside"  # of the recorded steps
ISSUING = "communication: issuing"


def ledger_of(run: Run, found: Found) -> Ledger:
    """The account of a rank's time at each of its collectives and steps."""
    split = run.breakdown.owners
    owners = _by_kind(run, split["compute"]) | _by_group(run, found, split["communication"])
    owners |= {name: where for name, where in split.items() if name not in ("compute", "communication") and where.count}
    columns, origin = found.collectives, run.trace.origin_ns
    begin = int(run.steps.start.min())
    edges = np.append(run.steps.start, run.steps.end[-1])
    return Ledger(
        owners=(*owners, OUTSIDE),
        at_arrival=_before(owners, columns.arrive - origin, begin),
        at_end=_before(owners, columns.end - origin, begin),
        at_step=_before(owners, edges, begin),
    )


def _before(owners: dict[str, Intervals], time: Ints, begin: int) -> Ints:
    """What each owner has of the time from the begin of the window to each of these, and what nobody has."""
    spent = [where.covered_before(time) for where in owners.values()]
    rest = (time - begin) - sum(spent, np.zeros(len(time), np.int64))
    return np.stack((*spent, rest), axis=1)


def _by_kind(run: Run, compute: Intervals) -> dict[str, Intervals]:
    """Computing by class of kernel; where several run at once, the time is that of the first in `KINDS`, on every rank."""
    activity = run.activity
    parts = {}
    for code in distinct(run.kernels.kind[activity.kind == COMPUTE]).tolist():
        mine = (activity.kind == COMPUTE) & (run.kernels.kind == code)
        parts[f"compute: {KINDS[code]}"] = union(activity.start[mine], activity.end[mine])
    return _apart(parts, compute)


def _by_group(run: Run, found: Found, exposed: Intervals) -> dict[str, Intervals]:
    """Exposed communication by process group; what issues collectives on the host is in none."""
    activity, columns = run.activity, found.collectives
    parts = {}
    for number, name in enumerate(group_names(columns)):
        mine = found.entry[columns.group == number]
        parts[name] = union(activity.start[mine], activity.end[mine])
    rest = without(np.flatnonzero(activity.kind == COMMUNICATION), found.entry)
    parts[ISSUING] = union(activity.start[rest], activity.end[rest])
    return {name: where for name, where in _apart(parts, exposed).items() if where.count}


def group_names(columns: Collectives) -> tuple[str, ...]:
    """The owner of the exposed communication of each group."""
    return tuple(f"communication: {_title(group, i)}" for i, group in enumerate(columns.groups))


def _title(group: Group, number: int) -> str:
    """What the program calls a group, or its name; both do for the ranks in it, and a number for one without a name."""
    return " ".join(part for part in (group.description, group.name) if part) or f"group {number}"


def _apart(parts: dict[str, Intervals], whole: Intervals) -> dict[str, Intervals]:
    """The parts of `whole` that each of these has and none before it."""
    apart, left = {}, whole
    for name, where in parts.items():
        apart[name] = left & where
        left = left - apart[name]
    return apart
