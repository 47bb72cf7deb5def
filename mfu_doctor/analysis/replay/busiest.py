"""The busiest part of the device: in the long run no step is shorter than what one stream, or the link to the host, does in it.

The edges of steps are where their first operations begin. What another stream still has to do then piles up from step to step
if it is more than there is time for, and a walk over a few steps does not show that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.replay.model import NO_LINK, TO_HOST, Timeline

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_NO_OPERATIONS = np.zeros(0, np.int64)


class Busy(Struct, frozen=True):
    """What the parts of a device have to do in the mean step, apart from operations whose time is told later.

    Attributes:
        own_ns: nanoseconds of each stream, then of each way of the link.
        stream: of each operation apart, an index into `own_ns`.
        often: how often each of them is in the mean step; 0: it is outside of the replayed steps.
    """

    own_ns: Floats
    stream: Ints
    often: Floats

    def least_ns(self, takes: Floats) -> float:
        """The mean step of the busiest part if the operations apart take so long; 0 if there is no device."""
        if not len(self.own_ns):
            return 0.0
        theirs = np.bincount(self.stream, takes * self.often, len(self.own_ns))
        return float((self.own_ns + theirs).max())


def busiest_ns(timeline: Timeline) -> float:
    """What the busiest stream, or the busiest way of the link, has to do in the mean step; 0 if there is no device."""
    return busy(timeline).least_ns(np.zeros(0))


def busy(timeline: Timeline, apart: Ints = _NO_OPERATIONS) -> Busy:
    """What each stream and each way of the link has to do.

    Args:
        timeline: as recorded or edited.
        apart: operations whose time is told later: what a collective takes is known when all ranks are there.
    """
    ops = timeline.operations
    streams = int(ops.stream.max(initial=-1)) + 1
    often = _often(timeline)
    way = np.where(timeline.two_way & (ops.link == TO_HOST), TO_HOST, np.sign(ops.link))
    # What overlaps the one before it on its stream keeps the stream busy only after that one.
    alone = np.maximum(ops.duration + np.minimum(ops.gap, 0.0), 0.0) * often
    alone[apart] = 0.0
    copies = way != NO_LINK
    on_streams = np.bincount(ops.stream, alone, streams)
    on_link = np.bincount(way[copies], (ops.duration * often)[copies]) if streams else np.zeros(0)
    return Busy(np.concatenate([on_streams, on_link]), ops.stream[apart], often[apart])


def _often(timeline: Timeline) -> Floats:
    """How often each operation is in the mean step."""
    first = np.array([_first_operation(timeline, i) for i in range(len(timeline.boundaries))], np.int64)
    weight = np.array(timeline.weight or (1,) * (len(first) - 1), np.float64)
    step = np.searchsorted(first, np.arange(len(timeline.operations.entry)), side="right") - 1
    inside = (step >= 0) & (step < len(weight))
    often = np.zeros(len(step))
    often[inside] = weight[step[inside]] / weight.sum()
    return often


def _first_operation(timeline: Timeline, index: int) -> int:
    """The first operation that is issued after a boundary."""
    boundary, ops = timeline.boundaries[index], timeline.operations
    if boundary.operation >= 0:
        return boundary.operation
    return int(np.searchsorted(ops.call, boundary.call)) if boundary.call >= 0 else len(ops.call)
