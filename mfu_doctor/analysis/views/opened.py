"""Functions that ran already when the recording of Python began.

A profiler writes a frame with the line that it is at when it is seen first. For a call that is where the function begins; for a
frame that is open when the recording begins it is the line that happens to run, such as `opt.step()` or the one that starts the
profiler. All that the function does afterwards stands under that line, which then says nothing about any of it.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.trace import Trace

# It is on the stack while the recorder writes down what is open, on all threads.
_BEGINS = re.compile(r"(^|/)torch/autograd/profiler\.py\(\d+\): _start_trace$")


def opened(trace: Trace, rows: npt.NDArray[np.int64]) -> frozenset[int]:
    """Of these frames, the names of those that were open when the recording of Python began and were never seen called.

    Args:
        trace: the trace.
        rows: rows of Python frames.
    """
    events = trace.events
    begins = trace.frames(ids_matching(trace, _BEGINS))
    if not len(begins):
        return frozenset()
    open_ = events.start[rows] <= events.end[begins].min()
    for begin in begins.tolist():  # a file can hold several recordings
        around = (events.start[rows] <= events.start[begin]) & (events.end[rows] >= events.end[begin])
        open_ |= around & (events.track[rows] == events.track[begin])
    called = distinct(events.name[rows[~open_]])
    return frozenset(np.setdiff1d(events.name[rows[open_]], called).tolist())
