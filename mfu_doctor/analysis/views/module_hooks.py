"""What events are called from: functions of the user that a module calls beside its forward(), and files of libraries."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.views.frame_threads import thread_of
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.analysis.views.source_lines import UserFrames
from mfu_doctor.trace import Trace

_CALLS_MODULE = re.compile(r"(^|/)torch/nn/modules/module\.py\(\d+\): (_call_impl|inner|__call__)$")


def in_hooks(trace: Trace, rows: npt.NDArray[np.int64], frames: UserFrames) -> npt.NDArray[np.bool_]:
    """Whether each event row is inside a function of the user that a module calls beside its forward(); shape of `rows`.

    A function that a module calls and that runs a forward() is no hook: it is wrapped around it.
    """
    found = np.zeros(len(rows), np.bool_)
    called = np.array([i for i, name in enumerate(trace.names) if _CALLS_MODULE.search(name)], np.int64)
    forward = np.array([i for i, name in enumerate(trace.names) if name.endswith(": forward")], np.int64)
    python = trace.frames(np.arange(len(trace.names) if len(called) and frames.threads else 0))
    for track in frames.threads if len(called) else ():
        every = thread_of(trace, python[trace.events.track[python] == track])
        around = every.around(np.arange(every.count))
        by_module = (around >= 0) & np.isin(every.named(around), called)
        own = np.isin(every.name, np.array(list(frames.places), np.int64))
        begins = every.start[np.isin(every.name, forward)]
        runs_one = np.searchsorted(begins, every.end) > np.searchsorted(begins, every.start)
        hooks = every.only(by_module & own & ~runs_one)
        mine = trace.events.track[rows] == track
        if hooks.count:
            found[mine] = hooks.innermost(trace.events.start[rows[mine]]) >= 0
    return found


def called_from(trace: Trace, rows: npt.NDArray[np.int64], file: str) -> npt.NDArray[np.bool_]:
    """Whether each event row is inside a function of this file ("torch/functional.py"); shape of `rows`."""
    found = np.zeros(len(rows), np.bool_)
    frame = re.compile(rf"(^|/){re.escape(file)}\(\d+\): ")
    python = trace.frames(np.array([i for i, name in enumerate(trace.names) if frame.search(name)], np.int64))
    for track, here in groups(trace.events.track[python]):
        mine = trace.events.track[rows] == track
        found[mine] = thread_of(trace, python[here]).innermost(trace.events.start[rows[mine]]) >= 0
    return found
