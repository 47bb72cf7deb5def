"""Work whose FLOPs are unknown: its names, and why nothing could be counted. No reason blames what is in the trace."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.utilization.counted_ops import CountedOps
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.analysis.views.work import Work
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.flops.table import OWN_NAMESPACES
from mfu_doctor.trace import Trace

NAMED = 3  # names in one sentence
_NO_SHAPES = "operator shapes were not recorded: record with record_shapes=True, or pass --model-flops"


class UnknownOp(Struct, frozen=True):
    """Operators (or kernels without one) of one name whose FLOPs are unknown, inside the analysed windows."""

    name: str
    count: int
    duration_ns: int
    matmul_like: bool  # their kernels multiply; else nothing is known about them
    is_operator: bool = True  # else a kernel that no operator of the trace launched


def unknown_ops(
    work: Work, enclosing: npt.NDArray[np.int64], uncounted: npt.NDArray[np.bool_]
) -> tuple[UnknownOp, ...]:
    """Names of operators that multiply without a formula, and of custom operators about whose kernels nothing is known.

    Args:
        work: the work of the run.
        enclosing: the counted call of each entry, -1 without one.
        uncounted: matmul-like entries without one.
    """
    activity, trace, op = work.activity, work.trace, work.launches.op
    start, end = int(work.steps.start.min()), int(work.steps.end.max())
    judged = (activity.start < end) & (activity.end > start) & (enclosing < 0) & (activity.kind == COMPUTE)
    foreign = np.array([_is_foreign(name) for name in trace.names] + [False], np.bool_)
    owner_name = np.where(op >= 0, trace.events.name[np.maximum(op, 0)], len(trace.names))
    mystery = work.kernels.is_kind("other") & foreign[owner_name]
    entries = np.flatnonzero(judged & (uncounted | mystery))
    shown = np.where(op[entries] >= 0, owner_name[entries], trace.events.name[activity.row[entries]])
    found = []
    for name, which in groups(shown):
        mine = entries[which]
        spent = int((activity.end - activity.start)[mine].sum())
        calls = len(distinct(np.where(op[mine] >= 0, op[mine], activity.row[mine])))
        multiplies, owned = bool(uncounted[mine].any()), bool((op[mine] >= 0).any())
        found.append(UnknownOp(trace.names[name], calls, spent, multiplies, owned))
    return tuple(sorted(found, key=lambda u: -u.duration_ns))


def why_nothing(trace: Trace, ops: CountedOps, unknown: Sequence[UnknownOp]) -> str:
    """Why no FLOPs of the analysed steps could be counted.

    Args:
        trace: the trace.
        ops: the operators that have a formula.
        unknown: the work whose FLOPs are unknown, longest first.
    """
    multiplying = [u for u in unknown if u.matmul_like]
    has_shapes = any(args.dims is not None for args in trace.args)
    owned = ops.without_shapes or any(u.is_operator for u in multiplying)
    if owned and not has_shapes:
        return _NO_SHAPES
    if unknown:
        return f"{unknown_flops_of(multiplying or unknown)}: pass --model-flops"
    if ops.without_shapes:
        return "the recorded arguments do not tell the FLOPs of the matmuls: pass --model-flops"
    return "the analysed steps contain no matmul"


def unknown_flops_of(unknown: Sequence[UnknownOp]) -> str:
    """Whose FLOPs are unknown, as a clause: operators without a formula, or kernels that belong to no operator; "" of none."""
    operators = [u.name for u in unknown if u.is_operator]
    if operators:
        more = f" and {len(operators) - NAMED} more" if len(operators) > NAMED else ""
        return f"the FLOPs of {', '.join(operators[:NAMED])}{more} are unknown"
    return f"the trace does not tell which operators launched kernels such as {unknown[0].name}" if unknown else ""


def _is_foreign(name: str) -> bool:
    namespace, separator, _ = name.partition("::")
    return bool(separator) and namespace.isidentifier() and namespace not in OWN_NAMESPACES
