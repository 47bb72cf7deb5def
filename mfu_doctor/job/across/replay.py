"""The replay of all ranks: each collective begins when its last member is there, and all else is the ranks' own replay.

A rank's replay is known at its collectives: it comes to each at the latest of a few earlier points plus a delay (`Reach`). Ranks
meet in collectives only, so they are worked off level by level, all ranks of a level at once. The unchanged replay must reproduce
the step of each rank; how far it is off is part of the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.replay.replay import WIDEN_ABOVE, WITHHOLD_ABOVE
from mfu_doctor.job.across.edits import JobChange, JobEdit
from mfu_doctor.job.across.floors import Floors
from mfu_doctor.job.across.levels import Level, levels_of, meetings_of
from mfu_doctor.job.across.matching import Matched
from mfu_doctor.job.across.points import Points, points_of
from mfu_doctor.job.across.slots import Slots
from mfu_doctor.job.across.table import UNKNOWN, Floats, Ints, Table
from mfu_doctor.job.across.waits import Waits
from mfu_doctor.job.summary import Reach
from mfu_doctor.quantities import signed_percent


class Price(Struct, frozen=True):
    """Savings of a change as shares of the job's step."""

    low: float
    mid: float
    high: float


class JobReplay:
    """All ranks of a run that can be run again.

    Args:
        table: the collectives of all ranks.
        matched: which are the same.
        waits: what each takes once all are there.
        reaches: the replay of each rank; it begins on the common clock.
        slots: what each rank does for itself up to each row of the table.

    Attributes:
        transfer: nanoseconds that each row takes once all are there, shape (n,).
        measured_ns: mean step of each rank as measured, shape (ranks,).
        base_ns: the same by the unchanged replay.
    """

    def __init__(self, table: Table, matched: Matched, waits: Waits, reaches: Sequence[Reach], slots: Slots) -> None:
        self._reaches, self._table, self._slots = tuple(reaches), table, slots
        self._walked: dict[int, tuple[JobEdit, float]] = {}  # the edits are held so that ids stay theirs
        begin = np.array([reach.begin for reach in reaches], np.int64)
        self._begin = begin - begin.min()
        inside = np.concatenate([np.empty(0, np.bool_), *(reach.inside for reach in reaches)])
        self._meetings = meetings_of(table, matched, waits, inside)
        lasts = np.concatenate([np.empty(0), *(reach.lasts_ns for reach in reaches)])
        # Without the profiler's time a collective can be shorter than recorded.
        self.transfer: Floats = np.where(self._meetings.alone, lasts, np.minimum(waits.transfer, lasts))
        self._points = points_of(table, self._reaches, self._begin)
        self._levels = levels_of(self._points, self._meetings)
        self._at, self._left = _walked(self._points, self._levels, self.transfer)
        self.measured_ns = np.array([reach.measured_ns for reach in reaches])
        self.base_ns = _steps(self._reaches, self._points, self._at)
        self._floors = Floors(table, self._meetings, self._reaches, self.transfer)

    @property
    def error(self) -> float:
        """Signed relative error of the unchanged replay: of the mean step of all ranks, which is what is predicted."""
        measured = float(self.measured_ns.mean())
        return float(self.base_ns.mean()) / measured - 1.0 if measured else 0.0

    @property
    def widening(self) -> float:
        """Fraction by which the ends of a prediction move apart because the replay itself is off."""
        return abs(self.error) if abs(self.error) > WIDEN_ABOVE else 0.0

    @property
    def distrust(self) -> str | None:
        """Why predictions may not be given, or None if they may."""
        if abs(self.error) <= WITHHOLD_ABOVE:
            return None
        return f"the replay of the unchanged job differs from the measured step by {signed_percent(self.error)}"

    def price(self, change: JobChange) -> Price:
        """What a change saves of the mean step of all ranks, as shares of it, low to high; each at least 0."""
        edits = {id(edit): edit for edit in (change.low, change.mid, change.high)}
        left = {key: self.left(edit) for key, edit in edits.items()}
        low, mid, high = sorted(max(1.0 - left[id(edit)], 0.0) for edit in (change.low, change.mid, change.high))
        return Price(low * (1 - self.widening), mid, min(high * (1 + self.widening), 1.0))

    def left(self, edit: JobEdit) -> float:
        """The mean step of all ranks with this edit, as a share of the one without."""
        if id(edit) not in self._walked:  # a plan asks again for what was priced alone
            base = float(self.base_ns.mean())
            left = float(self.steps_ns(edit).mean()) / base * (1.0 - edit.shorter) if base else 1.0
            self._walked[id(edit)] = (edit, left)
        return self._walked[id(edit)][1]

    def steps_ns(self, edit: JobEdit) -> Floats:
        """Mean step of each rank with this edit, in nanoseconds of the recorded run, shape (ranks,)."""
        points, levels = self._points, self._levels
        reaches = tuple(edit.reach.get(rank, reach) for rank, reach in enumerate(self._reaches))
        if edit.reach:
            points = points_of(self._table, reaches, self._begin)
            levels = levels if points.go_like(self._points) else levels_of(points, self._meetings)
        if edit.saved is not None:
            times = _walked(points, levels, self.transfer) if edit.reach else (self._at, self._left)
            points = self._sooner(points, times, edit.saved)
        transfer = self.transfer if edit.transfer is None else edit.transfer
        at, _ = _walked(points, levels, transfer)
        return self._floors.applied(_steps(reaches, points, at), reaches, transfer, edit.saved)

    def _sooner(self, points: Points, times: tuple[Floats, Floats], saved: Floats) -> Points:
        """The points with every delay shorter by the share that the rank saves of its own work in that time."""
        at, left = times
        since, delay = points.since.copy(), points.delay.copy()
        counts = np.diff(points.pointer)
        for rank, (a, b) in enumerate(pairwise(points.first.tolist())):
            rows = np.flatnonzero(points.row[a:b] != UNKNOWN) + a
            rows = rows[np.argsort(at[rows], kind="stable")]
            row = points.row[rows]
            if not saved[row].any():
                continue
            begin = float(self._begin[rank])
            done = _Done(self._table, self._slots, row, saved[row])
            done.at(begin, at[rows], left[rows])
            edges = slice(int(points.pointer[a]), int(points.pointer[b]))
            source, reached = points.source[edges], np.repeat(at[a:b], counts[a:b])
            delay[edges] *= done.left_between(left[source], reached)
            first = np.full(b - a, begin)
            since[a:b] = begin + (since[a:b] - begin) * done.left_between(first, at[a:b])
        return replace(points, since=since, delay=delay)


class _Done:
    """How much of its own work a rank has done at any time of the replay, and how much of that it saves.

    The recording tells it where the rank comes to a collective and where it leaves it, and it is even in between. A time of the
    replay is one of the recording by the rows to which the rank comes when its work is done: a receive can be elsewhere. What is
    saved is even in the work.

    Args:
        table: the collectives.
        slots: what ranks do for themselves.
        row: rows of this rank in the order of the replay.
        saved: nanoseconds less before each of them.
    """

    def __init__(self, table: Table, slots: Slots, row: Ints, saved: Floats) -> None:
        self._arrive, self._end = (times[row] - table.arrive[row[0]] for times in (table.arrive, table.end))
        self._is_paced = slots.paced[row]
        done = slots.done[row]
        first = done[:1] - slots.own[row[:1]]
        self._at_rows = np.maximum.accumulate(np.concatenate([first, done]))
        self._saved = np.concatenate([[0.0], np.cumsum(saved)])
        when, own = np.concatenate([self._arrive, self._end]), np.concatenate([done, slots.done_at_end[row]])
        order = np.argsort(when, kind="stable")
        self._recorded, self._own = when[order], np.maximum.accumulate(own[order])

    def at(self, begin: float, at: Floats, left: Floats) -> None:
        """Say when the rank comes to its rows in the replay, when it leaves them, and when the replay begins."""
        paced = self._is_paced if self._is_paced.any() else np.ones(len(at), np.bool_)
        times = np.concatenate([[begin], at[paced], left[paced]])
        recorded = np.concatenate([self._arrive[:1] - (at[:1] - begin), self._arrive[paced], self._end[paced]])
        order = np.argsort(times, kind="stable")
        self._times, self._as_recorded = times[order], np.maximum.accumulate(recorded[order])
        first = self._as_recorded[0]
        if first < self._recorded[0]:
            self._recorded = np.concatenate([[first], self._recorded])
            self._own = np.concatenate([self._at_rows[:1], self._own])

    def left_between(self, one: Floats, other: Floats) -> Floats:
        """The share of the work between two times that is left."""
        before, after = (
            np.interp(np.interp(when, self._times, self._as_recorded), self._recorded, self._own)
            for when in (one, other)
        )
        saved = np.interp(after, self._at_rows, self._saved) - np.interp(before, self._at_rows, self._saved)
        own = after - before
        share: Floats = np.divide(saved, own, out=np.zeros(len(own)), where=own > 0)
        return np.maximum(1.0 - share, 0.0)


def _walked(points: Points, levels: Sequence[Level], transfer: Floats) -> tuple[Floats, Floats]:
    """When each point is reached, and when it is left, shape (p,)."""
    at, left = np.zeros(len(points.since)), np.zeros(len(points.since))
    for level in levels:
        mine, sources, meeting = level.points, level.sources, level.together
        reached = points.since[mine]
        if len(sources.place):
            come = left[points.source[sources.place]] + points.delay[sources.place]
            latest = np.maximum.reduceat(come, sources.begins)
            reached[sources.sourced] = np.maximum(reached[sources.sourced], latest)
        at[mine] = reached
        if meeting is None:
            left[mine] = at[mine]
            continue
        last = np.maximum.reduceat(at[meeting.awaited], meeting.begins)
        left[mine] = last[meeting.collective] + transfer[points.row[mine]]
    return at, left


def _steps(reaches: Sequence[Reach], points: Points, at: Floats) -> Floats:
    each = zip(reaches, points.first[:-1].tolist(), points.first[1:].tolist(), strict=True)
    return np.array([reach.mean_step_ns(at[a:b]) if sum(reach.weight) else 0.0 for reach, a, b in each])
