"""Exclusive device time: every nanosecond of a window is given to what ran in it, so that the parts sum to the window.

Communication overlapped with compute gets no time, and neither does a copy overlapped with one of them. Operations of one kind
that run at the same time share the interval. One sweep over all boundaries, without a loop over events.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.views.activity import Activity
from mfu_doctor.arrays.distinct import distinct

Floats = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def exclusive_time(activity: Activity, start: int, end: int) -> tuple[Floats, dict[int, int]]:
    """Each entry's exclusive nanoseconds inside ``[start, end)``, shape (n,), and the exact total of each kind.

    Between two neighbouring boundaries the kind of best priority (compute, then communication, then copy) owns the time,
    and the operations of that kind running there share it equally.
    """
    tau = np.zeros(activity.count)
    lo = np.maximum(activity.start, start)
    hi = np.minimum(activity.end, end)
    inside = np.flatnonzero(hi > lo)
    if not len(inside):
        return tau, {}
    bounds = distinct(np.concatenate((lo[inside], hi[inside])))
    length = np.diff(bounds)
    first, last = np.searchsorted(bounds, lo[inside]), np.searchsorted(bounds, hi[inside])
    free = np.ones(len(length), np.bool_)
    totals: dict[int, int] = {}
    for kind in distinct(activity.kind[inside]).tolist():
        mine = activity.kind[inside] == kind
        opened = np.bincount(first[mine], minlength=len(bounds))
        closed = np.bincount(last[mine], minlength=len(bounds))
        running = np.cumsum(opened - closed)[:-1]
        owned = free & (running > 0)
        each = np.where(owned, length / np.maximum(running, 1), 0.0)
        upto = np.concatenate((np.zeros(1), np.cumsum(each)))
        tau[inside[mine]] = upto[last[mine]] - upto[first[mine]]
        totals[kind] = int(length[owned].sum())
        free &= running == 0
    return tau, totals


def exclusive_in(activity: Activity, stretches: list[tuple[int, int, int]]) -> tuple[Floats, dict[int, int]]:
    """The same over several stretches of time (start, end, how often it counts) together."""
    tau, totals = np.zeros(activity.count), dict[int, int]()
    for start, end, often in stretches:
        mine, of_kind = exclusive_time(activity, start, end)
        tau += mine * often
        totals = {kind: totals.get(kind, 0) + of_kind.get(kind, 0) * often for kind in totals | of_kind}
    return tau, totals


def whole_nanoseconds(parts: list[float], total: int) -> list[int]:
    """Round parts to integers that sum to `total` exactly; the largest part takes what rounding leaves.

    The parts must sum to `total` up to floating-point error; a negative part stays negative.
    """
    rounded = [round(p) for p in parts]
    if rounded:
        largest = max(range(len(parts)), key=lambda i: abs(parts[i]))
        rounded[largest] += total - sum(rounded)
    return rounded
