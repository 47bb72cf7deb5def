"""The user's code behind events and times of a run, from both windows that profile() recorded.

Stacks are recorded in a window of their own, because they slow the run. Their lines are used for the lightly recorded window too.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field
from msgspec.structs import replace

from mfu_doctor.analysis.views.exact_lines import Lines, at_its_call, exact_lines, line_at, line_within
from mfu_doctor.analysis.views.host import host_view
from mfu_doctor.analysis.views.module_hooks import called_from, in_hooks
from mfu_doctor.analysis.views.python_lines import Known, function_at, inside_only, known_in, python_at
from mfu_doctor.analysis.views.source_lines import Spot, UserFrames, places_of, spent_at, user_frames
from mfu_doctor.analysis.views.trainers import trainers_of
from mfu_doctor.analysis.views.twin_gaps import recorders_own, twin_gaps
from mfu_doctor.analysis.views.windows import SHAPES, TimingView, recorded_window
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.trace import Trace


class _Twins(Struct, frozen=True):
    """The window with stacks, and the row in it of each event of the trace that is analysed (-1: none)."""

    recorded: Trace
    frames: UserFrames
    row: npt.NDArray[np.int64]


class UserCode(Struct, frozen=True):
    """Where in the user's code the events of the analysed trace come from."""

    trace: Trace
    frames: UserFrames
    twins: _Twins | None  # None: the recorded trace has one window
    exact: Lines = field(
        default_factory=dict
    )  # lines of operators that the stacks know by the begin of their function alone

    def places(self, rows: npt.NDArray[np.int64]) -> tuple[str | None, ...]:
        """The user's file:line behind each event row, or None if neither stacks nor samples tell."""
        found = self.functions(rows)
        if not self.exact:
            return found
        names = self.trace.events.name[rows].tolist()
        return tuple(
            place if place is None else self.exact.get((place, name), place)
            for place, name in zip(found, names, strict=True)
        )

    def functions(self, rows: npt.NDArray[np.int64]) -> tuple[str | None, ...]:
        """The same, as stacks know it: the begin of the function."""
        found = places_of(self.trace, rows, self.frames)
        if self.twins is None:
            return found
        twin = self.twins.row[rows]
        from_stacks = places_of(self.twins.recorded, np.maximum(twin, 0), self.twins.frames)
        known = (twin >= 0).tolist()
        return tuple(s if k and s else f for f, s, k in zip(found, from_stacks, known, strict=True))

    def in_hooks(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether each event row is inside a hook of a module, as far as stacks tell; shape of `rows`."""
        found = in_hooks(self.trace, rows, self.frames)
        if self.twins is None:
            return found
        twin = self.twins.row[rows]
        return found | ((twin >= 0) & in_hooks(self.twins.recorded, np.maximum(twin, 0), self.twins.frames))

    def called_from(self, rows: npt.NDArray[np.int64], file: str) -> npt.NDArray[np.bool_]:
        """Whether each event row is inside a function of this file of a library, as far as stacks tell; shape of `rows`."""
        found = called_from(self.trace, rows, file)
        if self.twins is None:
            return found
        twin = self.twins.row[rows]
        return found | ((twin >= 0) & called_from(self.twins.recorded, np.maximum(twin, 0), file))

    def line_in(self, function: str, where: Intervals) -> str:
        """The line of this function (file:line of its begin) that it is at in this host time; its begin if nothing tells."""
        frames = self.frames if self.twins is None else self.twins.frames
        return line_at(self.trace, function, where, frames)

    def spent_at(self, where: Intervals, track: int | None) -> Spot | None:
        """The user's code in which most of this host time went by on a thread.

        Where the time was not sampled, the like time outside operators in the window with stacks is used.
        """
        spot = spent_at(self.trace, where, self.frames, track)
        if spot is not None or self.twins is None:
            return spot
        main = host_view(self.twins.recorded).main_track
        return spent_at(self.twins.recorded, self._with_stacks(where, track), self.twins.frames, main)

    def _with_stacks(self, where: Intervals, track: int | None) -> Intervals:
        """The like of this time in the window with stacks; all Python there where nothing is like it."""
        assert self.twins is not None
        recorded, host = self.twins.recorded, host_view(self.twins.recorded)
        window = recorded_window(recorded, SHAPES)
        outside = window - host.busy - host.fetch
        if host.main_track is not None:
            outside = outside - recorders_own(recorded, self.twins.frames, host.main_track)
        mine = np.where(self.trace.events.track == track, self.twins.row, -1)
        like = twin_gaps(self.trace, mine, recorded, where, window) & outside
        return like if like.count else outside

    def inside_at(self, where: Intervals, track: int | None) -> Spot | None:
        """The same from what was seen in this time alone: what only this time has is in no other window."""
        return spent_at(self.trace, where, self.frames, track)

    def inside_only(self, where: Intervals, apart: Intervals, track: int | None) -> Spot | None:
        """The same of code that does not run in the time `apart`."""
        return inside_only(self.trace, where, apart, self.frames, track)

    def python_only(self, where: Intervals, apart: Intervals, track: int | None) -> Spot | None:
        """As `python_at`, of code that does not run in the time `apart`, nor in the window with stacks."""
        known = known_in(self.trace, apart, self.frames, track)
        if self.twins is None:
            return python_at(self.trace, where, self.frames, track, known)
        recorded, frames = self.twins.recorded, self.twins.frames
        there = known_in(recorded, recorded_window(recorded, SHAPES), frames, host_view(recorded).main_track)
        known = Known(known.functions | there.functions, known.lines | there.lines)
        return python_at(self.trace, where, self.frames, track, known)

    def python_at(self, where: Intervals, track: int | None) -> Spot | None:
        """The user's code that ran for most of this host time and issues no operators, as in `spent_at`.

        A sampling thread gets no turn inside of Python that runs for less than the interpreter's switch interval (5 ms): it sees
        the thread at the next call that lets others run. The stacks know the function, so a sampled line outside of it is wrong.
        """
        spot = python_at(self.trace, where, self.frames, track)
        if self.twins is None:
            return spot
        recorded, frames = self.twins.recorded, self.twins.frames
        like, main = self._with_stacks(where, track), host_view(recorded).main_track
        function = function_at(recorded, like, frames, main)
        if spot is None or spot.function is not None:
            found = spot if spot is not None else python_at(recorded, like, frames, main)
            return None if found is None else line_within(self.trace, found, frames)
        if function is None or not frames.is_within(spot.place, function.place):
            return at_its_call(self.trace, spot.place, function) or function or spot
        return replace(spot, function=function.function)


def user_code(recorded: Trace, view: TimingView) -> UserCode:
    """Nest the user's Python frames of both windows.

    Args:
        recorded: the trace as it was read.
        view: its window that is analysed.
    """
    trainers = trainers_of(recorded)
    twins = None if view.twin is None else _Twins(recorded, user_frames(recorded, trainers), view.twin)
    code = UserCode(view.trace, user_frames(view.trace, trainers), twins)
    frames = code.frames if twins is None else twins.frames
    return replace(code, exact=exact_lines(code.trace, frames, code.functions))
