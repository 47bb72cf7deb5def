"""The arrays of a replayable run: host calls in issue order, device operations in stream order, and what waits for what."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

MARK = -1  # row of a host-side step mark among the calls
NO_LINK, TO_DEVICE, TO_HOST = 0, 1, 2  # how an operation uses the link between host and device
STAND_IN = -2  # row of an operator's start that stands in for launch calls that were not recorded


class Delivery(Struct, frozen=True):
    """A batch that workers delivered: `call`, the first one with it, begins no sooner than `after_ns` after `previous` did."""

    call: int
    previous: int  # the first call with the batch that was waited for before
    after_ns: float
    start: int  # the wait for it, as recorded
    end: int


class Calls(Struct, frozen=True):
    """Host calls in order of their start, shape (m,). A CPU-only run has its operators' self time here.

    A call starts when the call that ended last before it (`after`, any thread) has ended and `gap` of host work has passed,
    never before the previous call of its own thread (`own`). It takes `cost`, plus what it waits. If `after` is a collective that
    it waited for and that was written down as over only later, `gap` is negative.
    """

    row: npt.NDArray[np.int64]  # event row, MARK for step marks, STAND_IN for unrecorded calls
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]  # index of a call, -1 for the first
    own: npt.NDArray[np.int64]
    gap: npt.NDArray[np.float64]
    cost: npt.NDArray[np.float64]
    tail: npt.NDArray[np.float64]  # from the end of what it waits for to its return
    waits: tuple[tuple[int, tuple[int, ...]], ...]  # (call, device operations that must have ended)
    deliveries: tuple[Delivery, ...] = ()  # batches that are waited for, in order


class Operations(Struct, frozen=True):
    """Device operations in issue order, shape (k,); times in nanoseconds.

    An operation starts at the latest of: its call's start + `latency`, the end of the one before it on its stream + `gap`, and
    the end of each operation it waits for + `delay`. If it uses the link to the host, it waits until that is free.
    """

    entry: npt.NDArray[np.int64]  # index into Activity
    call: npt.NDArray[np.int64]  # index into Calls, -1: issued before the trace began
    start: npt.NDArray[np.int64]
    stream: npt.NDArray[np.int64]
    duration: npt.NDArray[np.float64]
    latency: npt.NDArray[np.float64]
    gap: npt.NDArray[np.float64]
    waits: tuple[tuple[int, int, float], ...]  # (operation, waits for, delay)
    link: npt.NDArray[np.int8]  # how it uses the link to the host: NO_LINK, TO_DEVICE or TO_HOST


class Boundary(Struct, frozen=True):
    """Where a step begins: the start of a device operation, or a host mark (and the end of all device work before it).

    With neither an operation nor a call it is the end of all device work.
    """

    operation: int = -1
    call: int = -1
    drained: bool = False  # the step also ends only when the device has finished


class Timeline(Struct, frozen=True):
    """Calls, operations and the boundaries of the replayed steps (steady ones only)."""

    calls: Calls
    operations: Operations
    boundaries: tuple[Boundary, ...]
    modelled: (
        Operations  # the operations with the run's delays instead of their own: the replay's error is measured on these
    )
    released: Operations  # the same without the holds that nothing in the trace explains
    measured_ns: float  # mean of the replayed steps as recorded, by `weight`
    queue_limit: int  # launches that may be outstanding on a stream before a launch blocks
    two_way: bool = False  # the link carries copies to the device and to the host at the same time
    weight: tuple[int, ...] = ()  # how often each replayed step stands in the mean one; (): all alike
    without_calls: bool = False  # a device's timeline without launch calls: what the host waited for is not known
