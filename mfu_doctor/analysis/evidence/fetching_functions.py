"""The functions of the program inside of fetches, by the stacks of the step that was recorded in depth.

A thread that looks at another one gets no turn inside of Python that runs for less than the interpreter's switch interval (5 ms):
of many short calls it sees those that let others run. The stacks know how long each function took.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.source_lines import Spot, heaviest, spot_of, user_frames
from mfu_doctor.analysis.views.training_thread import fetch_marks
from mfu_doctor.analysis.views.windows import SHAPES, recorded_window
from mfu_doctor.arrays.intervals import union

_MOST = 0.5  # of the time in fetches, from which on a function is named


class FetchingFunction(Struct, frozen=True):
    """The innermost function that has most of the time in fetches, what it calls included.

    Attributes:
        spot: its name, and where it begins.
        of: name of the outermost function of the program around it inside of the fetch; None: itself.
        part: its share of that time.
    """

    spot: Spot
    of: str | None
    part: float


def fetching_function(run: Run) -> FetchingFunction | None:
    """What the thread that fetches spends most of it in; None if no stacks were recorded, or no function has most."""
    trace = run.recorded
    marks, frames = fetch_marks(trace), user_frames(trace, run.trainers)
    if not len(marks):
        return None
    thread = frames.threads.get(int(trace.events.track[marks[0]]))
    fetches, window = union(trace.events.start[marks], trace.events.end[marks]), recorded_window(trace, SHAPES)
    where = fetches & window if window.count else fetches
    inside = thread.only(where.contains(thread.start)) if thread is not None else None
    name = heaviest(inside, where) if inside is not None else None
    if inside is None or name is None:
        return None
    mine = np.flatnonzero(inside.name == name)
    part = (where & union(inside.start[mine], inside.end[mine])).total_ns / where.total_ns
    if part < _MOST:
        return None
    outermost = mine[:1]
    while (around := inside.around(outermost))[0] >= 0:
        outermost = around
    outer = spot_of(trace, frames, int(inside.named(outermost)[0])).function
    spot = spot_of(trace, frames, name)
    return FetchingFunction(spot, None if outer == spot.function else outer, part)
