"""Edits: declarative changes to the recorded timeline. Replay predicts what they save, alone or together.

A rule never computes its gain. It says what a fix would change (these host intervals are removed, these kernels are so much
faster, these waits are removed). Rows are event rows of the trace.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.arrays.intervals import Intervals

Rows: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


class ScaleHost(Struct, frozen=True):
    """Host work inside `where` takes `factor` of its time (0 removes it); its waits for the device stay: add DropWaits for those.

    Without waits to stop it, the host reaches the next wait sooner and waits there for work that the device still has.
    """

    where: Intervals
    factor: float = 0.0


class ShortenHost(Struct, frozen=True):
    """Each host interval keeps only `keep_ns` of its length (start, end, keep: shape (k,)); for per-fetch floors."""

    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    keep_ns: npt.NDArray[np.int64]


class PaceWorkers(Struct, frozen=True):
    """Workers that training waits for need `factor` of the time for a batch: they no longer hold a quicker training back."""

    factor: float


class DropWaits(Struct, frozen=True):
    """These runtime calls no longer block the host (they keep their own small cost)."""

    calls: Rows


class ReleaseHolds(Struct, frozen=True):
    """Nothing but what the trace shows holds these device rows in their queues any longer; `left` of each hold remains."""

    rows: Rows
    left: float = 0.0


class ScaleDevice(Struct, frozen=True):
    """These device rows (kernels, copies; on a CPU: ops) take `factor` (shape of rows) of their time."""

    rows: Rows
    factor: Floats


class SetDevice(Struct, frozen=True):
    """These device rows take exactly `duration_ns` (shape of rows)."""

    rows: Rows
    duration_ns: npt.NDArray[np.int64]


class AsyncCopies(Struct, frozen=True):
    """These copy rows no longer block their launch call, and take `duration_ns` each."""

    rows: Rows
    duration_ns: npt.NDArray[np.int64]


class MergeLaunches(Struct, frozen=True):
    """In each group (shape of rows: group number) the device rows become one operation.

    The first row of a group takes `device_ns[group]`; the others take none and need no launch. Host time inside `where` is
    scaled by `host_factor` (the loop that issued them), never below one launch per group.
    """

    rows: Rows
    group: npt.NDArray[np.int64]
    device_ns: npt.NDArray[np.int64]
    where: Intervals
    host_factor: float = 0.0


class TwoWayLink(Struct, frozen=True):
    """The link between host and device carries both directions at full speed; else large copies take turns on it."""


class MoveToStream(Struct, frozen=True):
    """These device rows run on a stream of their own, starting as soon as they are launched (overlap)."""

    rows: Rows


Edit: TypeAlias = (
    ScaleHost
    | PaceWorkers
    | ShortenHost
    | DropWaits
    | ReleaseHolds
    | ScaleDevice
    | SetDevice
    | AsyncCopies
    | MergeLaunches
    | TwoWayLink
    | MoveToStream
)


class Change(Struct, frozen=True):
    """One fix as edits at its low, mid and high end (low: what this run shows it can reach; high: all of it gone)."""

    low: tuple[Edit, ...]
    mid: tuple[Edit, ...]
    high: tuple[Edit, ...]

    @staticmethod
    def exactly(*edits: Edit) -> Change:
        """A fix with one outcome."""
        return Change(edits, edits, edits)
