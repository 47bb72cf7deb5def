"""The steady (analysed) steps: rules count only what happens inside them, and state it per step.

Excluded steps (see `step_kinds`) and the work around the steps would change every count, so all rules use this one window.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.vocabulary import LABEL, VIEW, ids_matching, rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.groups import groups, on_each
from mfu_doctor.analysis.views.once import once
from mfu_doctor.arrays.distinct import without
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.quantities import share
from mfu_doctor.trace import Category

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# A cause comes evenly if its share of the median step is within half of that of the mean one; bursts of a loader do not.
_EVEN = 0.5


class Steady(Struct, frozen=True):
    """The steady steps of a run as sets of time, in nanoseconds.

    Attributes:
        device: their windows on the device.
        host: when the host issued what opens each window until it issued what opens the next (on a CPU-only run the same
            windows): what happens in between is what the windows' idle time is owed to, the fetch of the next batch too.
        count: how many they are.
        step_ns: the mean step, which everything stated per step is a part of.
        edges: start and end of each step's host window, shape (count,).
        part: how much of the mean step each of them is, shape (count,); all alike, unless long steps come more rarely than they
            were recorded.
    """

    device: Intervals
    host: Intervals
    count: int
    step_ns: float
    edges: tuple[Rows, Rows]
    part: npt.NDArray[np.float64]

    def host_ns(self, where: Intervals) -> float:
        """What the mean step has of this host time."""
        return float(where.overlap_with(*self.edges) @ self.part)

    def issued(self, run: Run, rows: Rows) -> Rows:
        """Those host-side event rows that begin in a steady step."""
        return rows[self.host.contains(run.trace.events.start[rows])]

    def entries(self, run: Run) -> Mask:
        """Which entries of the activity table begin in a steady step, shape (n,)."""
        return self.device.contains(run.activity.start)

    def entry_part(self, run: Run) -> npt.NDArray[np.float64]:
        """How much of the mean step the step is in which each entry of the activity table begins; 0 elsewhere; shape (n,)."""
        steps = run.steps
        at = np.maximum(np.searchsorted(steps.start, run.activity.start, side="right") - 1, 0)
        inside = (run.activity.start >= steps.start[at]) & (run.activity.start < steps.end[at])
        part: npt.NDArray[np.float64] = np.where(inside, steps.weight[at] / steps.weight.sum(), 0.0)
        return part

    def per_step(self, total: float) -> float:
        """A total over the steady steps as a mean per step."""
        return total / self.count

    def share(self, per_step_ns: float) -> str:
        """A mean per step as a share of the mean step, never above 100 % for what cannot overlap: "21 %"."""
        return share(per_step_ns, self.step_ns)


class Part(Struct, frozen=True):
    """A bucket or an idle cause (or several) of the mean step.

    Attributes:
        mean_ns: what it takes of the mean step.
        is_even: whether the median step has about as much of it as the mean one: if not, few steps have most of it.
        of_step: "32 % of the step", as in the report's split.
    """

    mean_ns: float
    is_even: bool
    of_step: str


@once
def steady_of(run: Run) -> Steady:
    """The steady steps of a run."""
    steps, keep = run.steps, run.steps.steady
    device = union(steps.start[keep], steps.end[keep])
    edges = (steps.start[keep], steps.end[keep]) if run.is_cpu else _issued_windows(run, np.flatnonzero(keep))
    return Steady(
        device,
        union(*edges),
        int(keep.sum()),
        steps.mean_ns,
        edges,
        steps.weight[keep] / steps.weight.sum(),
    )


def part_of(run: Run, *owners: str) -> Part:
    """What these buckets or idle causes take of a step together."""
    mean, whole = run.breakdown.mean_ns(*owners), run.steps.mean_ns
    median = run.breakdown.steps[run.steps.median]
    shown = sum(median.of(name) for name in owners)
    is_even = abs(shown * whole - mean * median.total) <= _EVEN * mean * median.total
    return Part(mean, is_even, f"{share(mean, whole)} of the step")


def _issued_windows(run: Run, index: Rows) -> tuple[Rows, Rows]:
    """From the launch that opens each window to the launch that opens the next; the host's mark if no launch is known."""
    steps, events = run.steps, run.trace.events

    def issued(entry: Rows, mark: Rows) -> Rows:
        known = np.maximum(entry, 0)
        row = np.where(run.launches.call[known] >= 0, run.launches.call[known], run.launches.op[known])
        return np.where((entry >= 0) & (row >= 0), events.start[np.maximum(row, 0)], mark)

    start = issued(steps.opening[index], steps.host_start[index])
    end = issued(steps.closing[index], steps.host_end[index])
    return start, np.maximum(start, end)


def under(run: Run, rows: Rows, pattern: re.Pattern[str]) -> Rows:
    """For each row the nearest enclosing row on its thread whose name matches, else -1; shape of `rows`."""
    named = np.zeros(len(run.trace.names) + 1, np.bool_)
    named[ids_matching(run.trace, pattern)] = True
    name = run.trace.events.name
    found = np.full(len(rows), -1, np.int64)
    up = np.where(rows >= 0, run.ops.parent[np.maximum(rows, 0)], -1).astype(np.int64)
    while (up >= 0).any():
        reached = (up >= 0) & (found < 0) & named[name[np.maximum(up, 0)]]
        found[reached] = up[reached]
        up = np.where((up >= 0) & (found < 0), run.ops.parent[np.maximum(up, 0)], -1)
    return found


def calls_beside(run: Run, pattern: re.Pattern[str]) -> Iterator[Rows]:
    """The outermost operators, views left out, of each thread that has one with such a name, in the order of time."""
    calls = run.trace.rows(Category.CPU_OP)
    calls = outermost(run, without(calls, rows_matching(run.trace, LABEL, calls)))
    calls = without(calls, rows_matching(run.trace, VIEW, calls))
    track = run.trace.events.track
    for _, mine in on_each(track[rows_matching(run.trace, pattern, calls)], track[calls]):
        here = calls[mine]
        yield here[np.argsort(run.trace.events.start[here], kind="stable")]


def outermost(run: Run, rows: Rows) -> Rows:
    """Those host rows that no other of them encloses (same thread; rows in time order)."""
    kept = np.ones(len(rows), np.bool_)
    for _, mine in groups(run.trace.events.track[rows]):
        reach = np.maximum.accumulate(run.trace.events.end[rows[mine]])
        kept[mine[1:]] = run.trace.events.start[rows[mine]][1:] >= reach[:-1]
    return rows[kept]


def topmost(run: Run, rows: Rows) -> Rows:
    """The outermost operator that each row is or is inside of."""
    events = run.trace.events
    operator = events.category == Category.CPU_OP
    operator[rows_matching(run.trace, LABEL, run.trace.rows(Category.CPU_OP))] = False
    top, up = rows.copy(), rows.astype(np.int64)
    while (up >= 0).any():
        here = (up >= 0) & operator[np.maximum(up, 0)]
        top[here] = up[here]
        up = np.where(up >= 0, run.ops.parent[np.maximum(up, 0)], -1)
    return top


def spans(run: Run, rows: Rows) -> Intervals:
    """The time that these rows cover."""
    return union(run.trace.events.start[rows], run.trace.events.end[rows])
