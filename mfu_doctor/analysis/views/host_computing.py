"""Operators that compute on the CPU in a GPU run: random numbers, augmentation, a loss on the host.

An operator that launches work keeps the CPU busy for some 50 us at most. One that launches nothing and takes longer does its work
itself. Launching faster does not make it shorter, so it is a cause of idle time of its own.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.names.vocabulary import (
    ALLOCATOR,
    BLOCKING,
    COMMUNICATION_OP,
    FETCH,
    LAUNCH,
    ids_matching,
    rows_matching,
)
from mfu_doctor.analysis.views.activity import Activity
from mfu_doctor.analysis.views.groups import on_each
from mfu_doctor.analysis.views.launches import Launches
from mfu_doctor.analysis.views.nesting import OpTree
from mfu_doctor.analysis.views.training_thread import training_threads
from mfu_doctor.arrays.distinct import distinct, without
from mfu_doctor.trace import CALL_CATEGORIES, Category, Trace
from mfu_doctor.units import NS_PER_US

# Dispatching an operator takes the CPU 5 to 50 us. One without a launch that takes longer, for itself and each operator inside
# it, does something else: it computes.
LEAST_NS = 50 * NS_PER_US
_TENSOR_OP = re.compile(r"^(?!(torch::)?autograd::|profiler::|prim::)\w+::\w+")
# These give a name to memory or take some, and compute nothing however long the system lets them wait.
_NO_WORK = re.compile(
    r"^aten::(empty\w*|new_empty\w*|resize_\w*|set_|view\w*|_unsafe_view|reshape|_reshape_alias|as_strided\w*|expand\w*|permute"
    r"|transpose|t|slice|select|narrow|squeeze\w*|unsqueeze|detach\w*|alias|split\w*|chunk|unbind|flatten|lift_fresh|result_type)$"
)


def host_computing(trace: Trace, ops: OpTree, activity: Activity, launches: Launches) -> npt.NDArray[np.int64]:
    """Event rows of the outermost operators on the threads that train that compute on the CPU; none in a CPU-only run.

    Args:
        trace: the trace.
        ops: nesting of operators.
        activity: device work.
        launches: the call and the operator of each piece of it. Without any call it is not known which operators launch.
    """
    if not activity.is_device or not (launches.call >= 0).any():
        return np.zeros(0, np.int64)
    events = trace.events
    every = trace.rows(Category.CPU_OP)
    every = every[np.isin(events.track[every], training_threads(trace))]
    rows = every[events.end[every] - events.start[every] >= LEAST_NS]
    excluded = np.concatenate((ids_matching(trace, _NO_WORK), ids_matching(trace, COMMUNICATION_OP)))
    rows = rows[np.isin(events.name[rows], without(ids_matching(trace, _TENSOR_OP), excluded))]
    rows = rows[~_around(trace, ops, launches)[rows]]
    rows = rows[events.end[rows] - events.start[rows] >= LEAST_NS * _operators_in(trace, every, rows)]
    above = trace.named(ids_matching(trace, FETCH))
    above[rows] = True
    return rows[~ops.below(rows, above)]


def _operators_in(trace: Trace, every: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many of the operators `every` each of the rows consists of, itself counted; each of them has to be dispatched."""
    events, count = trace.events, np.ones(len(rows), np.int64)
    for mine, here in on_each(events.track[rows], events.track[every]):
        begun = np.sort(events.start[every[here]])
        first = np.searchsorted(begun, events.start[rows[mine]], side="left")
        count[mine] = np.searchsorted(begun, events.end[rows[mine]], side="left") - first
    return np.maximum(count, 1)


def _around(trace: Trace, ops: OpTree, launches: Launches) -> npt.NDArray[np.bool_]:
    """Which events launch device work, wait for it or take its memory, by themselves or in what they enclose."""
    calls = trace.rows(*CALL_CATEGORIES)
    inner = [rows_matching(trace, pattern, calls) for pattern in (LAUNCH, BLOCKING, ALLOCATOR)]
    marked = np.zeros(len(trace.events), np.bool_)
    up = np.concatenate((*inner, launches.op[launches.op >= 0]))
    while len(up):
        up = distinct(up)
        up = up[~marked[up]]
        marked[up] = True
        up = ops.parent[up].astype(np.int64)
        up = up[up >= 0]
    return marked
