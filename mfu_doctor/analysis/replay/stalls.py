"""What stopped a run while it was recorded, taken out where the steps themselves show it.

A step can take longer while it is recorded for reasons that no recording cost explains: the profiler's buffers make the heap grow
under a large tensor, another process takes the processor. That hits few calls at a time, and the same calls in other steps show
what they take without. So the surplus is taken from each call in proportion to what it took beyond the fastest of the steps that
did the same; fixes of what happened to be hit would look better than they are. What is longer in all steps alike comes off all
operators alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.replay.model import MARK, Timeline
from mfu_doctor.trace import Trace

Rows = npt.NDArray[np.int64]
Times = npt.NDArray[np.float64]

_FEWEST = 3  # steps that do the same thing: with fewer there is no telling what it takes


@dataclass(frozen=True, slots=True)
class Fastest:
    """A host-only timeline and the least that each of its calls took in the steps that did the same."""

    timeline: Timeline
    cost: Times

    def nearer(self, share: float) -> Timeline:
        """The timeline with this share (0 to 1) of what each call took beyond its fastest taken out."""
        calls = self.timeline.calls
        return replace(self.timeline, calls=replace(calls, cost=calls.cost - share * (calls.cost - self.cost)))

    def quicker(self, share: float) -> Timeline:
        """The timeline of the fastest calls, each this share (0 to 1) shorter still."""
        calls = self.timeline.calls
        return replace(self.timeline, calls=replace(calls, cost=(1.0 - share) * self.cost))


def fastest_of(timeline: Timeline, trace: Trace) -> Fastest:
    """The least that each call of a host-only timeline took; its own time where too few steps are alike."""
    calls = timeline.calls
    step = np.cumsum(calls.row == MARK)
    cost = calls.cost.copy()
    real = np.flatnonzero(calls.row >= 0)
    track = trace.events.track[calls.row[real]]
    for thread in np.unique(track):
        mine = real[track == thread]
        for alike in _alike(mine, step[mine], trace.events.name[calls.row[mine]]):
            cost[alike] = calls.cost[alike].min(axis=0)
    return Fastest(timeline, cost)


def _alike(mine: Rows, step: Rows, name: npt.NDArray[np.int32]) -> list[Rows]:
    """Steps of one thread that do the same: for each kind of them the calls, shape (steps, calls in one)."""
    edges = np.flatnonzero(np.diff(step)) + 1
    parts = zip(np.split(mine, edges), np.split(name, edges), strict=True)
    keyed = sorted(((names.tobytes(), calls) for calls, names in parts), key=lambda part: part[0])
    kinds = [[calls for _, calls in same] for _, same in groupby(keyed, key=lambda part: part[0])]
    return [np.array(kind) for kind in kinds if len(kind) >= _FEWEST and len(kind[0])]
