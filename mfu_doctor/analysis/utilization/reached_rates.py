"""The FLOP/s that matmuls of a CPU run reached. A measured peak below this is too low.

The peak of a CPU is measured beside the run. If the machine is busy at that moment, the peak is too low and MFU too high. The
matmuls of the run are a measurement too: the processor can reach what one of them reached, if its shapes are its own and not
those of another step, and if none of its matrices is sparse.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.views.groups import on_each
from mfu_doctor.arrays.intervals import union
from mfu_doctor.devices.dtypes import is_complex
from mfu_doctor.flops.table import OF_SPARSE
from mfu_doctor.flops.trace_arguments import recorded_flops
from mfu_doctor.trace import Category, Trace
from mfu_doctor.units import NS_PER_S

Rows = npt.NDArray[np.int64]

# Plain matmuls only: 2 M N K is what they execute, while a convolution may do with less.
_MATMULS = frozenset({"aten::mm", "aten::addmm", "aten::bmm"})

# A matmul must take so long that its recorded time is right to 1 %: the profiler itself adds less than 1 us.
LEAST_NS = 100_000


def reached_rates(trace: Trace) -> dict[str, float]:
    """FLOP/s of the fastest recorded matmul of each dtype; empty if shapes were not recorded.

    Args:
        trace: the trace as it was recorded.
    """
    events = trace.events
    rows = trace.rows(Category.CPU_OP)
    kept = np.isin(events.name[rows], trace.name_ids(_MATMULS))
    kept &= events.lasting(rows) >= LEAST_NS
    best: dict[str, float] = {}
    rows = rows[kept]
    for row in _fastest_of_each(trace, rows[~_recomputed(trace, rows) & ~_inside(trace, rows, _of_sparse)]):
        cost = recorded_flops(trace.name_of(row), trace.args_of(row))
        if cost is not None and cost.dtype is not None and not is_complex(cost.type):
            rate = cost.executed / int(events.end[row] - events.start[row]) * NS_PER_S
            best[cost.dtype] = max(best.get(cost.dtype, 0.0), rate)
    return best


def _recomputed(trace: Trace, rows: Rows) -> npt.NDArray[np.bool_]:
    """Which rows run again in backward what forward did: they record for autograd, inside a node of it, shape of `rows`.

    Checkpointing stops its recomputation inside an operator that has its inputs but has not computed yet.
    """
    return _inside(trace, rows, lambda name: NODE_CALL.match(name) is not None) & (trace.events.sequence[rows] >= 0)


def _of_sparse(name: str) -> bool:
    return name in OF_SPARSE


def _inside(trace: Trace, rows: Rows, named: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
    """Which rows began inside an operator with such a name on their thread, shape of `rows`."""
    events = trace.events
    around = trace.rows(Category.CPU_OP)
    is_named = np.array([named(name) for name in trace.names], np.bool_)
    around = around[is_named[events.name[around]]]
    inside = np.zeros(len(rows), np.bool_)
    for mine, own in on_each(events.track[rows], events.track[around]):
        inside[mine] = union(events.start[around[own]], events.end[around[own]]).contains(events.start[rows[mine]])
    return inside


def _fastest_of_each(trace: Trace, rows: Rows) -> list[int]:
    """The shortest row of each distinct set of arguments: equal arguments are one object."""
    events = trace.events
    told = rows[events.args[rows] >= 0]
    order = told[np.lexsort((events.end[told] - events.start[told], events.name[told], events.args[told]))]
    keys = np.stack([events.args[order], events.name[order]])
    first = np.ones(len(order), bool)
    first[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    rows_of_each: list[int] = order[first].tolist()
    return rows_of_each
