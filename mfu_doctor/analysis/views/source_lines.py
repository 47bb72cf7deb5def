"""Where in the user's code something happened: the file and line behind an event.

"A sync at train.py:41" is more useful than "4 syncs per step". Two sources, in order: Python frames in a trace (their line is
the first line of the function, unless it ran already: see `opened`) and the positions of the main thread that profile() sampled
(exact lines, but only for what took long enough to be sampled).
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.views.frame_threads import Thread, thread_of
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.analysis.views.opened import opened
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.trace import Trace

FRAME = re.compile(r"^(?P<file>.+\.py)\((?P<line>\d{1,9})\): (?P<function>.*)")
_INSTALLED = re.compile(
    r"(^|/)(site-packages|dist-packages)/(torch|numpy|triton|mfu_doctor)\w*/|/lib/python3[^/]*/(?!site-)"
)
_AT_ONCE = 1 << 16  # frames
_REMEMBERED = 1 << 12  # names of frames: the stacks of many calls have the same ones
_MOST = 0.5  # share of a time from which on it was spent in a function
_FRAMEWORKS = frozenset({"torch", "torchgen", "torchvision", "torchaudio", "numpy", "triton", "mfu_doctor"})


class Spot(Struct, frozen=True):
    """Where time was spent: file:line, and the function's name if the trace has its frame."""

    place: str
    function: str | None = None

    @property
    def spelled(self) -> str:
        """In a sentence: "augment() at train.py:12", or the line alone."""
        named = self.function is not None and self.function.isidentifier()
        return f"{self.function}() at {self.place}" if named else self.place


class UserFrames(Struct, frozen=True):
    """The Python frames of the user's own code, nested once, so that many places can be looked up cheaply."""

    places: dict[int, str]  # name id -> file:line, or as in `opened`
    threads: dict[int, Thread]  # track -> its frames
    # Functions of libraries inside of which the steps run ("lightning.fit"). Where the thread was seen at a line that calls one,
    # the library was at work, and the line is not what to change.
    trainers: frozenset[str] = frozenset()
    # The innermost line of the user in the stack that an event's arguments carry, by their id; empty: none carries one.
    calls: tuple[str | None, ...] = ()
    # Functions that ran already when the recording began, "train.py, main()", and a line inside: nobody knows where they begin.
    opened: dict[str, str] = {}

    def is_within(self, line: str, function: str) -> bool:
        """Whether a line is in this function: no other one of the file begins between its known line and this one."""
        file, _, number = line.rpartition(":")
        known_file, _, known = self.opened.get(function, function).rpartition(":")
        if file != known_file or (function not in self.opened and int(known) > int(number)):
            return False
        first, last = sorted((int(known), int(number)))
        others = (place.rpartition(":") for place in self.places.values() if place not in self.opened)
        return not any(name == file and first < int(begin) <= last for name, _, begin in others)


def user_frames(trace: Trace, trainers: frozenset[str] = frozenset()) -> UserFrames:
    """Collect and nest the user's frames of a trace; `trainers` as in `UserFrames`."""
    lines = {i: place for i, name in enumerate(trace.names) if (place := user_place(name)) is not None}
    frames = trace.frames(np.array(list(lines), np.int64))
    without = {i: _without_line(trace.names[i]) for i in opened(trace, frames)}
    places = lines | without
    threads = {track: thread_of(trace, frames[mine]) for track, mine in groups(trace.events.track[frames])}
    calls = tuple(_line_of(args.call_stack) if args.call_stack else None for args in trace.args)
    known = {place: lines[i] for i, place in without.items()}
    return UserFrames(places, threads, trainers, calls if any(calls) else (), known)


def _without_line(frame: str) -> str:
    """A frame as it is named where its line says nothing: "train.py" for its outermost code, "train.py, main()"."""
    match = FRAME.match(frame)
    assert match is not None
    return match["file"] if match["function"] == "<module>" else f"{match['file']}, {match['function']}()"


def places_of(trace: Trace, rows: npt.NDArray[np.int64], frames: UserFrames | None = None) -> tuple[str | None, ...]:
    """For each event row the user's file:line that issued it ("train.py:41"), or None if the trace does not say.

    Args:
        trace: the trace.
        rows: event rows.
        frames: what `user_frames` returned for this trace, if many rows are looked up in several calls.
    """
    known = frames or user_frames(trace)
    found = _from_stacks(trace, rows, known)
    sampled = _from_samples(trace, rows, known)
    called = _from_call_stacks(trace, rows, known)
    return tuple(first or second or third for first, second, third in zip(found, sampled, called, strict=True))


def spent_at(trace: Trace, where: Intervals, frames: UserFrames, track: int | None) -> Spot | None:
    """The user's code in which most of this time went by, or None if the trace does not say.

    Positions that a capture sampled have the exact line; Python frames have the function, at its first line. Of the frames
    it is the innermost function that covers half of the time, else the one in whose own lines most of it passed.

    Args:
        trace: the trace.
        where: host time in which no operator ran.
        frames: what `user_frames` returned for this trace.
        track: the thread that trains; a progress bar's thread is in its own frame all the time.
    """
    sampled = _sampled_in(trace, where, frames)
    if sampled is not None:
        return Spot(sampled)
    thread = frames.threads.get(track) if track is not None else None
    name = heaviest(thread, where) if thread is not None else None
    return None if name is None else spot_of(trace, frames, name)


def spot_of(trace: Trace, frames: UserFrames, name: int) -> Spot:
    """The place and the function of a user's frame, by the id of its name."""
    place, match = frames.places[name], FRAME.match(trace.names[name])
    return Spot(place, match["function"] if match and place not in frames.opened else None)


def heaviest(thread: Thread, where: Intervals) -> int | None:
    """Name id of the innermost frame that covers half of what frames cover of this time, else of the largest own time."""
    ran = thread.touching(where)
    if not ran.count:
        return None
    name, covered, overlap = ran.name, (where & ran.covered()).total_ns, ran.overlap_with(where)
    total = _by_name(name, overlap)
    spans = total >= covered * _MOST
    inner = name[spans[name]][::-1]
    if len(inner):  # of equal ones the last to begin lies deepest
        return int(inner[np.argmin(total[inner])])
    own, around = overlap.copy(), ran.around(np.arange(ran.count))
    np.subtract.at(own, around[around >= 0], overlap[around >= 0])
    return int(np.argmax(_by_name(name, own)))


def _by_name(name: npt.NDArray[np.int32], ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Nanoseconds of each name: exact sums, some frames at a time, because numpy copies what it counts."""
    total = np.zeros(int(name.max()) + 1)
    for at in range(0, len(name), _AT_ONCE):
        total += np.bincount(name[at : at + _AT_ONCE], ns[at : at + _AT_ONCE], len(total))
    return total


def _sampled_in(trace: Trace, where: Intervals, frames: UserFrames) -> str | None:
    """The position that capture sampled most often in this time; None if that is a call of a trainer."""
    if trace.facts is None or not trace.facts.frames or not trace.origin_ns:
        return None
    times = np.array([frame.time_ns - trace.origin_ns for frame in trace.facts.frames], np.int64)
    inside = [trace.facts.frames[i] for i in np.flatnonzero(where.contains(times)).tolist()]
    hits = Counter(None if sample.call in frames.trainers else sample.place for sample in inside)
    return hits.most_common(1)[0][0] if hits else None


@lru_cache(_REMEMBERED)
def user_place(frame: str) -> str | None:
    """file:line of a Python frame's name in a trace, or None for frames of the framework and of Python itself."""
    match = FRAME.match(frame)
    if match is None:
        return None
    file = match["file"]
    package = file.split("/", 1)[0].removesuffix(".py")
    if package in _FRAMEWORKS or _INSTALLED.search(file) or file.startswith("<"):
        return None
    # the profiler strips sys.path entries, so the standard library's "weakref.py" stands without a folder
    if package in sys.stdlib_module_names:
        return None
    return f"{file}:{match['line']}"


def _from_stacks(trace: Trace, rows: npt.NDArray[np.int64], frames: UserFrames) -> list[str | None]:
    """Innermost enclosing frame of the user on the row's own thread."""
    out: list[str | None] = [None] * len(rows)
    tracks = trace.events.track[rows]
    for track, thread in frames.threads.items():
        mine = np.flatnonzero(tracks == track)
        inside = thread.innermost(trace.events.start[rows[mine]])
        name = thread.named(inside)
        for index, frame, named in zip(mine.tolist(), inside.tolist(), name.tolist(), strict=True):
            out[index] = frames.places[named] if frame >= 0 else None
    return out


def _from_call_stacks(trace: Trace, rows: npt.NDArray[np.int64], frames: UserFrames) -> list[str | None]:
    """The user's innermost line in the stack that the event itself carries, else the first event inside it."""
    lines = frames.calls
    if not lines:
        return [None] * len(rows)
    events = trace.events
    told = np.flatnonzero((events.args >= 0) & np.array([*map(bool, lines), False])[events.args])
    out: list[str | None] = [None] * len(rows)
    for track, mine in groups(events.track[told]):
        inside = told[mine]
        asked = np.flatnonzero(events.track[rows] == track)
        first = np.searchsorted(events.start[inside], events.start[rows[asked]], side="left")
        until = np.maximum(events.end[rows[asked]], events.start[rows[asked]] + 1)
        at = inside[np.minimum(first, len(inside) - 1)]
        hit = (first < len(inside)) & (events.start[at] < until)
        for index, args in zip(asked[hit].tolist(), events.args[at[hit]].tolist(), strict=True):
            out[index] = lines[args]
    return out


def _line_of(stack: str) -> str | None:
    """The innermost frame of the user in a call stack."""
    return next((place for frame in stack.split(";") if (place := user_place(frame)) is not None), None)


def _from_samples(trace: Trace, rows: npt.NDArray[np.int64], frames: UserFrames) -> list[str | None]:
    """The first position that capture sampled while the event was running; None at a call of a trainer."""
    if trace.facts is None or not trace.facts.frames or not trace.origin_ns:
        return [None] * len(rows)
    samples = sorted(trace.facts.frames, key=lambda frame: frame.time_ns)
    times = np.array([frame.time_ns - trace.origin_ns for frame in samples], np.int64)
    index = np.searchsorted(times, trace.events.start[rows], side="left")
    known = index < len(times)
    known[known] &= times[index[known]] < trace.events.end[rows[known]]
    first = [samples[i] if ok else None for i, ok in zip(index.tolist(), known.tolist(), strict=True)]
    return [None if sample is None or sample.call in frames.trainers else sample.place for sample in first]
