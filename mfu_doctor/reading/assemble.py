"""Turns filled columns into a `Trace`: impossible times repaired, events in time order, times counted from the first."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mfu_doctor.reading.clock import clamp
from mfu_doctor.reading.columns import Columns
from mfu_doctor.trace import Events


def assemble(columns: Columns) -> tuple[Events, int, int]:
    """The events of a file, and what was done to their times.

    Columns are taken one at a time, so that only one of them exists twice at any moment.

    Returns:
        The events; the file's time that became 0, in nanoseconds; how many events had impossible times.
    """
    start, end = columns.take("start"), columns.take("end")
    clamped = clamp(start, end)
    origin = int(start.min()) if len(start) else 0
    order = time_order(start, end)
    start = start[order]  # one after the other, so that the first is freed before the second exists twice
    end = end[order]
    start -= origin
    end -= origin

    def sorted_column(name: str) -> npt.NDArray[Any]:
        return columns.take(name)[order]

    events = Events(
        start=start,
        end=end,
        name=sorted_column("name"),
        category=sorted_column("category"),
        track=sorted_column("track"),
        correlation=sorted_column("correlation"),
        external_id=sorted_column("external_id"),
        sequence=sorted_column("sequence"),
        args=sorted_column("args"),
    )
    return events, origin, clamped


def time_order(start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Row order by start, longer events first among equal starts, else as in the file.

    Files are nearly sorted, which a stable sort of one column uses; only runs of equal starts are sorted again.
    """
    order = np.argsort(start, kind="stable")
    by_start = start[order]
    equal = by_start[1:] == by_start[:-1]
    if not equal.any():
        return order
    in_run = np.zeros(len(order), np.bool_)
    in_run[1:] |= equal
    in_run[:-1] |= equal
    tied = np.flatnonzero(in_run)
    rows = order[tied]
    order[tied] = rows[np.lexsort((-end[rows], start[rows]))]
    return order
