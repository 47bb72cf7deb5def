"""Which runtime call launched each device operation, and which operator owns it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.vocabulary import TO_HOST, ids_matching
from mfu_doctor.analysis.views.activity import COPY, Activity
from mfu_doctor.analysis.views.nesting import OpTree
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.trace import CALL_CATEGORIES, Category, Trace
from mfu_doctor.units import NS_PER_US

# From a launch to the start of its operation where nothing is before it: 99 % take less than 30 us in public traces, none
# of a kernel more than 100. A graph's first kernel may take longer, see `longest_latency`.
_LONGEST_LATENCY_NS = 100 * NS_PER_US
# Cost of a node in a CUDA graph launch: NVIDIA, "Constant-time launch for straight-line CUDA graphs" (2024), older drivers.
_GRAPH_NODE_NS = 1 * NS_PER_US
_MAX_DEPTH = 64  # deeper than operators nest in any trace seen (54); bounds the walk


class Launches(Struct, frozen=True):
    """For each entry of `Activity`, shape (n,): event rows, -1 if the trace does not say.

    On a CPU-only trace `call` is -1 and `op` is the entry's own row.
    """

    call: npt.NDArray[np.int64]  # runtime or driver call that launched it (many kernels share one graph launch)
    op: npt.NDArray[np.int64]  # innermost CPU operator that owns it


def link(trace: Trace, activity: Activity, ops: OpTree) -> Launches:
    """Join device operations to their launch call (correlation) and to their operator (External id, else nesting).

    Before 2024 the `External id` of a kernel was a copy of its correlation; such ids are not trusted and the operator is found
    through the launch call's parent.
    """
    if not activity.is_device:
        return Launches(np.full(activity.count, -1, np.int64), activity.row.copy())
    events = trace.events
    calls = trace.rows(*CALL_CATEGORIES)
    calls = calls[events.correlation[calls] > 0]
    call = _join(events.correlation[activity.row], events.correlation[calls], calls)
    op = np.full(activity.count, -1, np.int64)
    external = events.external_id[activity.row].astype(np.int64)
    linked = external > 0
    if linked.any() and (external[linked] != events.correlation[activity.row][linked]).any():
        host_ops = trace.rows(Category.CPU_OP)
        host_ops = host_ops[events.external_id[host_ops] > 0]
        op = _join(external, events.external_id[host_ops].astype(np.int64), host_ops)
    missing = (op < 0) & (call >= 0)
    op[missing] = _enclosing_op(trace, ops, call[missing])
    return Launches(call, op)


def _join(
    wanted: npt.NDArray[np.int64], keys: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """For each wanted key the first row with that key, or -1."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(keys, kind="stable")
    index = np.searchsorted(keys[order], wanted, side="left")
    found = index < len(keys)
    candidate = order[np.minimum(index, len(keys) - 1)]
    found &= (keys[candidate] == wanted) & (wanted > 0)
    return np.where(found, rows[candidate], -1)


def _enclosing_op(trace: Trace, ops: OpTree, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Innermost enclosing operator of each row (never an annotation or a call), or -1."""
    category = trace.events.category
    current = rows.copy()
    for _ in range(_MAX_DEPTH):
        up = np.where(current >= 0, ops.parent[np.maximum(current, 0)], -1)
        settled = (current < 0) | ((category[np.maximum(current, 0)] == Category.CPU_OP) & (current != rows))
        current = np.where(settled, current, up)
        if settled.all():
            break
    is_op = (current >= 0) & (category[np.maximum(current, 0)] == Category.CPU_OP) & (current != rows)
    return np.where(is_op, current, -1)


def blocking_reads(trace: Trace, activity: Activity, launches: Launches) -> npt.NDArray[np.int64]:
    """Launch calls of copies to the host that returned only when the copy had ended (pageable memory), in time order."""
    to_host = (activity.kind == COPY) & np.isin(trace.events.name[activity.row], ids_matching(trace, TO_HOST))
    known = to_host & (launches.call >= 0)
    waited = trace.events.end[np.maximum(launches.call, 0)] >= activity.end
    return distinct(launches.call[known & waited]).astype(np.int64)


def longest_latency(call: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The longest time from its launch to its start that is the launch's own, in nanoseconds; what takes longer was held.

    Args:
        call: the call that issued each device operation (a graph launch issues many), -1 unknown; shape (n,).
    """
    _, which, count = np.unique(call, return_inverse=True, return_counts=True)
    nodes = np.where(call >= 0, count[which] - 1, 0) if len(call) else np.zeros(0, np.int64)
    return (_LONGEST_LATENCY_NS + _GRAPH_NODE_NS * nodes).astype(np.int64)
