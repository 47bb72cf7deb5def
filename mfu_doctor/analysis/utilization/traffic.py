"""The least memory traffic of each device operation, from the shapes of the operator that launched it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.names.op_names import kind_of_op
from mfu_doctor.analysis.utilization.flops import FlopCount
from mfu_doctor.analysis.utilization.op_bytes import minimal_bytes
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.analysis.views.work import Work
from mfu_doctor.arrays.distinct import numbered, numbered_together
from mfu_doctor.trace import Trace

Floats = npt.NDArray[np.float64]


def least_bytes(work: Work, count: FlopCount) -> Floats:
    """Least traffic of each entry of `Activity` in bytes, NaN if shapes do not say; shape (n,).

    An operator's traffic is spread over its kernels by duration. Matmuls take theirs from their formula.
    """
    activity, trace, op = work.activity, work.trace, work.launches.op
    by_cost = np.array([np.nan if c.bytes is None else c.bytes for c in count.ops.costs] + [np.nan])
    cost = np.append(count.ops.cost, -1)[count.owner]
    out = np.where(count.owner >= 0, by_cost[cost] * count.share, np.nan)
    others = np.flatnonzero((count.owner < 0) & (op >= 0) & (activity.kind == COMPUTE))
    calls, which = numbered(op[others])
    duration = (activity.end - activity.start)[others].astype(np.float64)
    total = np.bincount(which, duration, minlength=len(calls))
    name, args = trace.events.name[calls], trace.events.args[calls]
    first, of_call = numbered_together(name, args)
    known = np.array([_bytes(trace, int(name[i]), int(args[i])) for i in first.tolist()] + [np.nan])
    part = duration / np.maximum(total[which], 1.0)
    out[others] = known[of_call[which]] * part
    return out


def _bytes(trace: Trace, name: int, args: int) -> float:
    text = trace.names[name]
    found = minimal_bytes(text, kind_of_op(text), trace.args[args]) if args >= 0 else None
    return np.nan if found is None else found
