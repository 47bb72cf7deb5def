"""The busiest part of the device: in the long run no step is shorter than what one stream, or the link to the host, does in it.

The edges of steps are where their first operations begin. What another stream still has to do then piles up from step to step
if it is more than there is time for, and a walk over a few steps does not show that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.replay.model import NO_LINK, TO_HOST, Timeline


def busiest_ns(timeline: Timeline) -> float:
    """What the busiest stream, or the busiest way of the link, has to do in the mean step; 0 if there is no device."""
    ops = timeline.operations
    first = np.array([_first_operation(timeline, i) for i in range(len(timeline.boundaries))], np.int64)
    weight = np.array(timeline.weight or (1,) * (len(first) - 1), np.float64)
    step = np.searchsorted(first, np.arange(len(ops.entry)), side="right") - 1
    inside = np.flatnonzero((step >= 0) & (step < len(weight)))
    if not len(inside):
        return 0.0
    way = np.where(timeline.two_way & (ops.link == TO_HOST), TO_HOST, np.sign(ops.link))[inside]
    # What overlaps the one before it on its stream keeps the stream busy only after that one.
    alone = np.maximum(ops.duration + np.minimum(ops.gap, 0.0), 0.0)[inside] * weight[step[inside]]
    copies = (ops.duration[inside] * weight[step[inside]])[way != NO_LINK]
    busy = max(_most(ops.stream[inside], alone), _most(way[way != NO_LINK], copies))
    return float(busy / weight.sum())


def _first_operation(timeline: Timeline, index: int) -> int:
    """The first operation that is issued after a boundary."""
    boundary, ops = timeline.boundaries[index], timeline.operations
    if boundary.operation >= 0:
        return boundary.operation
    return int(np.searchsorted(ops.call, boundary.call)) if boundary.call >= 0 else len(ops.call)


def _most(of: npt.NDArray[np.integer], length: npt.NDArray[np.float64]) -> float:
    """The largest sum of lengths that belong to one."""
    return float(np.bincount(of, length).max(initial=0.0))
