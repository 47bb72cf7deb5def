"""Turns filled columns into the columns of a `Trace`: impossible times repaired, in one order, times counted from the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.errors import NotATraceError
from mfu_doctor.reading.clock import clamp, without_start
from mfu_doctor.reading.columns import Columns
from mfu_doctor.reading.order import Key, narrowed, order_by, ranks, recode, renumbered, taken
from mfu_doctor.reading.values import ArgsTable
from mfu_doctor.trace import DEVICE_CATEGORIES, Category, EventArgs, Events, Track
from mfu_doctor.units import MOST_NS, NS_PER_S


class Assembled(Struct, frozen=True):
    """The events of a file, and what was done to their times.

    Attributes:
        events: in time order.
        names, tracks, args: what the codes in their columns stand for.
        origin: the file's time that became 0, in nanoseconds.
        clamped: how many events had impossible times.
        untimed: how many operations of a device had no time at all, and were left out: nothing tells when they ran.
    """

    events: Events
    names: tuple[str, ...]
    tracks: tuple[Track, ...]
    args: tuple[EventArgs, ...]
    origin: int
    clamped: int
    untimed: int


def assemble(columns: Columns, known: ArgsTable) -> Assembled:
    """The events that were read; `known` has what their arguments' codes stand for.

    Columns are taken one at a time, so that only one of them exists twice at any moment.

    Raises:
        NotATraceError: the events last longer than a sum of times can be.
    """
    start, end = columns.take("start"), columns.take("end")
    lost = without_start(start)
    untimed = lost
    if lost.any():
        untimed = lost & np.isin(columns.look("category"), DEVICE_CATEGORIES)
    clamped = clamp(start, end, lost)
    total = float(np.sum(end, dtype=np.float64) - np.sum(start, dtype=np.float64))
    if total > MOST_NS:
        raise NotATraceError(f"its events last {total / NS_PER_S:.2g} s together", "record the run again")
    origin = int(start.min()) if len(start) else 0
    names, tracks = columns.names, columns.tracks.tracks()
    args, codes = known.parsed()
    recode(columns.look("args"), np.array([*codes, -1], np.int32))
    for wide in ("correlation", "sequence"):
        columns.put(wide, narrowed(columns.take(wide)))
    order = order_by(start, lambda rows: -end[rows], *_ties(columns, names, tracks, args))
    if untimed.any():
        order = order[~untimed[order]]
    order = narrowed(order)
    start = taken(start, order)  # one after the other, so that the first is freed before the second exists twice
    end = taken(end, order)
    start -= origin
    end -= origin

    def sorted_column(name: str) -> npt.NDArray[Any]:
        return taken(columns.take(name), order)

    category, external = sorted_column("category"), sorted_column("external_id")
    external[category == Category.PYTHON] = -1  # it was the frame's own number, which only its order needs
    name, track, arg = sorted_column("name"), sorted_column("track"), sorted_column("args")
    names, tracks, args = renumbered(name, names), renumbered(track, tracks), renumbered(arg, args)
    events = Events(
        start=start,
        end=end,
        name=name,
        category=category,
        track=track,
        correlation=sorted_column("correlation"),
        external_id=narrowed(external),
        sequence=sorted_column("sequence"),
        args=narrowed(arg),
    )
    counts = int(np.count_nonzero(clamped & ~untimed)), int(np.count_nonzero(untimed))
    return Assembled(events, names, tracks, args, origin, *counts)


def _ties(columns: Columns, names: Sequence[str], tracks: Sequence[Track], args: Sequence[EventArgs]) -> list[Key]:
    """What orders events of equal start and end: the numbers that count what a profiler saw begin, then everything else."""

    def plain(name: str) -> Key:
        return lambda rows: columns.look(name)[rows]

    def ranked(name: str, values: Sequence[Any], key: Callable[[Any], Any]) -> Key:
        rank = cache(lambda: ranks(values, key))
        return lambda rows: rank()[columns.look(name)[rows]]

    return [
        *map(plain, ("category", "external_id", "correlation", "sequence")),
        ranked("name", names, str),
        ranked("track", tracks, lambda track: (-1 if track.device is None else track.device, track.pid, track.tid)),
        ranked("args", args, repr),
    ]
