"""Replay: simulate the recorded timeline again, unchanged or with a problem removed, and read the new step time.

The same simulation serves every rule. A fix that is not on the critical path saves nothing, and fixes can be combined. The
unchanged replay must reproduce the recorded run; its error is part of every report. The method follows Daydream (Zhu et al.,
USENIX ATC 2020) and Lumos (Liang et al., MLSys 2025), reduced to what decides a training step: issue order, stream order,
waits and blocking.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.replay.busiest import busiest_ns
from mfu_doctor.analysis.replay.edit_timeline import apply
from mfu_doctor.analysis.replay.edits import Change, Edit
from mfu_doctor.analysis.replay.limited import limited
from mfu_doctor.analysis.replay.model import Timeline
from mfu_doctor.analysis.replay.walk import walk
from mfu_doctor.analysis.views.activity import Activity
from mfu_doctor.quantities import percent, signed_percent

WIDEN_ABOVE = 0.03  # replay errors above this widen predictions by as much
WITHHOLD_ABOVE = 0.10  # above this, predictions are not given at all


class Price(Struct, frozen=True):
    """Savings of a change in nanoseconds per step of the trace, low to high; each at least 0."""

    low_ns: float
    mid_ns: float
    high_ns: float

    def within(self, most_ns: float) -> Price:
        """The same, none of them above `most_ns`."""
        return Price(*(min(ns, most_ns) for ns in (self.low_ns, self.mid_ns, self.high_ns)))


class Replay:
    """A run that can be run again.

    Args:
        recorded: the timeline as recorded.
        row_of_entry: event row of each Activity entry, shape (n,).
        timeline: what edits are applied to, where it differs (the profiler's own time taken out).
        slowdown: how many times as long as without a profiler, and with a core for each thread, that timeline's step is
            (1: as long, or not known).

    Attributes:
        recorded: the timeline as recorded.
        recorded_ns: mean of the replayed steps as recorded.
        measured_ns: the same without the profiler's time if that is known; what savings are relative to.
        base_ns: mean of the replayed steps without edits.
        model_ns: the same from the model's delays alone, without each operation's own recorded delay.
        released_ns: the same if nothing held the device's work but what the trace tells.
    """

    def __init__(
        self,
        recorded: Timeline,
        row_of_entry: npt.NDArray[np.int64],
        timeline: Timeline | None = None,
        *,
        slowdown: float = 1.0,
    ) -> None:
        self._slowdown = slowdown
        self.recorded = recorded
        self.timeline = timeline or recorded
        self._row_of_entry = row_of_entry
        self._walked: dict[
            tuple[int, ...], tuple[tuple[Edit, ...], float]
        ] = {}  # the edits are held so that ids stay theirs
        self.recorded_ns = recorded.measured_ns
        self.measured_ns = self.timeline.measured_ns
        self.base_ns = walk(self.timeline)
        self.model_ns = walk(replace(recorded, operations=recorded.modelled))
        self.released_ns = walk(replace(recorded, operations=recorded.released))
        # Work on both sides of an edge can make a stream look busier than its steps are long.
        self._busiest_ns = busiest_ns(self.timeline)
        self._busy_share = min(self.measured_ns / max(self._busiest_ns, 1.0), 1.0)

    @property
    def error(self) -> float:
        """Signed relative error of the unchanged replay: of the model alone, not of the recording replayed to itself."""
        return self.model_ns / self.recorded_ns - 1.0

    @property
    def unexplained(self) -> float:
        """Share of the step in which work is queued and held by what the trace does not show: the replay only repeats it."""
        return max(self.model_ns - self.released_ns, 0.0) / self.recorded_ns

    @property
    def tested(self) -> bool:
        """Whether the error says anything: a host-only timeline has nothing but recorded delays and repeats itself."""
        return len(self.timeline.operations.entry) > 0

    @property
    def distrust(self) -> str | None:
        """Why predictions may not be given, or None if they may."""
        if self.timeline.without_calls:
            return "the trace has no launch calls, so host waits are unknown: record with ProfilerActivity.CPU"
        return self.doubt(WITHHOLD_ABOVE)

    def doubt(self, above: float) -> str | None:
        """Why predictions can be off by more than this share of the step, or None if nothing says so."""
        if max(abs(self.error), self.unexplained) <= above:
            return None
        if self.unexplained > abs(self.error):
            return f"for {percent(self.unexplained)} of the step queued work is held by what this trace does not show"
        return f"the replay of the unchanged run differs from the measured step by {signed_percent(self.error)}"

    @property
    def trusted(self) -> bool:
        """Whether predictions may be given."""
        return self.distrust is None

    @property
    def widening(self) -> float:
        """Fraction by which a prediction's ends move apart because the replay itself is off."""
        unsure = max(abs(self.error), self.unexplained)
        return unsure if unsure > WIDEN_ABOVE else 0.0

    def unrecorded_ns(self, activity: Activity) -> npt.NDArray[np.float64]:
        """What each entry of the activity table takes if nothing records it, in nanoseconds, shape (n,).

        A fix that leaves a part of what an operator takes must leave a part of this: the replay starts from it too. On a GPU
        and outside of the replayed steps it is the recorded time.
        """
        length = (activity.end - activity.start).astype(np.float64)
        if activity.is_device:
            return length
        return length * self._unrecorded_share(int(activity.row.max(initial=0)) + 1)[activity.row]

    def _unrecorded_share(self, rows: int) -> npt.NDArray[np.float64]:
        """For each event row (of so many) what its calls take without recording, over what they took; 1 outside of the replay."""
        mine = np.flatnonzero(self.timeline.calls.row >= 0)
        row = self.timeline.calls.row[mine]
        took = np.bincount(row, self.recorded.calls.cost[mine], minlength=rows)
        takes = np.bincount(row, self.timeline.calls.cost[mine], minlength=rows) / self._slowdown
        share: npt.NDArray[np.float64] = np.divide(takes, took, out=np.ones(rows), where=took > 0)
        return share

    def step_ns(self, edits: Sequence[Edit]) -> float:
        """Mean step with these edits, in nanoseconds of the recorded run (the replay's own bias taken out)."""
        if not edits:
            return self.measured_ns
        key = tuple(id(edit) for edit in edits)
        if key not in self._walked:  # a plan asks again for what was priced alone
            self._walked[key] = (tuple(edits), self._replayed(edits))
        return self._walked[key][1]

    def edited(self, edits: Sequence[Edit]) -> Timeline:
        """The timeline with these edits made."""
        return apply(self.timeline, edits, self._row_of_entry, self._slowdown) if edits else self.timeline

    def edited_within(self, edits: Sequence[Edit], most_ns: float) -> Timeline:
        """The timeline with these edits made, or only so much of them as saves `most_ns` of the measured mean step."""
        return limited(self.timeline, self.edited(edits), self.base_ns * (1.0 - most_ns / self.measured_ns))

    def _replayed(self, edits: Sequence[Edit]) -> float:
        changed = self.edited(edits)
        if self.runs_ahead(changed):
            after, before = walk(changed, by_completion=True), walk(self.timeline, by_completion=True)
        else:
            after, before = walk(changed), self.base_ns
        is_same = changed.operations is self.timeline.operations and changed.two_way == self.timeline.two_way
        busiest = (
            self._busiest_ns if is_same else busiest_ns(changed)
        )  # an edit of host time leaves the device its work
        return max(after * self.measured_ns / before, busiest * self._busy_share)

    def runs_ahead(self, changed: Timeline) -> bool:
        """Whether an edit moved an operation that begins a step to a stream of its own."""
        begins = [b.operation for b in changed.boundaries if b.operation >= 0]
        return bool((changed.operations.stream[begins] != self.timeline.operations.stream[begins]).any())

    def price(self, change: Change) -> Price:
        """What a change saves per step at its three ends, ordered and never below zero."""
        ends = (change.low, change.mid, change.high)
        low, mid, high = sorted(max(self.measured_ns - self.step_ns(edits), 0.0) for edits in ends)
        return Price(low * (1 - self.widening), mid, min(high * (1 + self.widening), self.measured_ns))
