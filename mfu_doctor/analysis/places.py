"""Where in the user's code something happened: the file and line behind an event.

"4 syncs a step" starts a search; "a sync at train.py:41" ends it. Two sources, in order: Python frames in a trace
(their line is the first line of the function, which is all that the profiler records) and the positions of the training
thread that a live capture sampled (exact lines, but only for what lasted long enough to be sampled).
"""

from __future__ import annotations

import re
import sys

import numpy as np
import numpy.typing as npt

from mfu_doctor.trace import Category, Trace

_FRAME = re.compile(r"^(?P<file>.+\.py)\((?P<line>\d+)\): ")
_INSTALLED = re.compile(
    r"(^|/)(site-packages|dist-packages)/(torch|numpy|triton|mfu_doctor)\w*/|/lib/python3[^/]*/(?!site-)"
)
_FRAMEWORKS = frozenset({"torch", "torchgen", "torchvision", "torchaudio", "numpy", "triton", "mfu_doctor"})


def places_of(trace: Trace, rows: npt.NDArray[np.int64]) -> tuple[str | None, ...]:
    """For each event row the user's file:line that issued it ("train.py:41"), or None where the trace does not tell."""
    found = _from_stacks(trace, rows)
    sampled = _from_samples(trace, rows)
    return tuple(a if a is not None else b for a, b in zip(found, sampled, strict=True))


def user_place(frame: str) -> str | None:
    """file:line of a Python frame's name in a trace, or None for frames of the framework and of Python itself."""
    match = _FRAME.match(frame)
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


def _from_stacks(trace: Trace, rows: npt.NDArray[np.int64]) -> list[str | None]:
    """Innermost enclosing frame of the user on the row's own thread."""
    places = {i: place for i, name in enumerate(trace.names) if (place := user_place(name)) is not None}
    frames = trace.rows(Category.PYTHON)
    frames = frames[np.isin(trace.events.name[frames], np.array(list(places), np.int64))]
    if not len(frames):
        return [None] * len(rows)
    out: list[str | None] = [None] * len(rows)
    tracks = trace.events.track[rows]
    for track in np.unique(tracks):
        mine = np.flatnonzero(tracks == track)
        inside = _innermost(trace, frames[trace.events.track[frames] == track], trace.events.start[rows[mine]])
        for index, frame in zip(mine.tolist(), inside, strict=True):
            out[index] = places[int(trace.events.name[frame])] if frame >= 0 else None
    return out


def _innermost(trace: Trace, frames: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> list[int]:
    """For each time the innermost of the frames (of one thread, sorted by start) that covers it, or -1."""
    start, end = trace.events.start[frames].tolist(), trace.events.end[frames].tolist()
    out = [-1] * len(times)
    stack: list[int] = []
    upto = 0
    for query in np.argsort(times, kind="stable").tolist():
        now = int(times[query])
        while upto < len(start) and start[upto] <= now:
            while stack and end[stack[-1]] <= start[upto]:
                stack.pop()
            stack.append(upto)
            upto += 1
        while stack and end[stack[-1]] <= now:
            stack.pop()
        out[query] = int(frames[stack[-1]]) if stack else -1
    return out


def _from_samples(trace: Trace, rows: npt.NDArray[np.int64]) -> list[str | None]:
    """The first position that capture sampled while the event was running."""
    if trace.facts is None or not trace.facts.frames or not trace.origin_ns:
        return [None] * len(rows)
    samples = sorted(trace.facts.frames, key=lambda frame: frame.time_ns)
    times = np.array([frame.time_ns - trace.origin_ns for frame in samples], np.int64)
    index = np.searchsorted(times, trace.events.start[rows], side="left")
    known = index < len(times)
    known[known] &= times[index[known]] < trace.events.end[rows[known]]
    return [samples[i].place if ok else None for i, ok in zip(index.tolist(), known.tolist(), strict=True)]
