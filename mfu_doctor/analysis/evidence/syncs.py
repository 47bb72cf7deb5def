"""Where the host waits for the device, and which operator and line of the program caused the wait.

One `.item()` is three events (an operator, a copy, a synchronisation). Rules count them as one wait.
"""

from __future__ import annotations

import re

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.steady_steps import Rows, Steady, under
from mfu_doctor.analysis.names.vocabulary import FETCH, TO_DEVICE, ids_matching, plain_call
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.launches import blocking_reads
from mfu_doctor.arrays.distinct import distinct, without

# Operators whose result's shape or control flow depends on values: their wait cannot be dropped, only avoided.
_DATA_DEPENDENT = re.compile(r"^aten::(nonzero|nonzero_numpy|masked_select|unique\w*|is_nonzero|equal|bincount)$")
# The innermost named reason wins: what the program wrote, not the plumbing below it.
_REASON = re.compile(
    r"^aten::(item|nonzero|nonzero_numpy|masked_select|unique\w*|is_nonzero|equal|bincount|index|index_put_|repeat_interleave"
    r"|to|cpu|copy_|_to_copy|_local_scalar_dense|_amp_foreach_non_finite_check\w*|allclose|where|one_hot)$"
)
_ANY_OP = re.compile(r"^(aten|torchvision|torch|c10d)::")


class Syncs(Struct, frozen=True):
    """Calls on the host that waited for the device in the steady steps; all of shape (n,).

    Attributes:
        calls: event rows of the blocking calls (a synchronisation, or a copy that blocks).
        owner: event row of the operator that explains each, -1 if the program called the runtime itself.
        reason: its name, or the name of the call without its variant.
    """

    calls: Rows
    owner: Rows
    reason: tuple[str, ...]

    @property
    def data_dependent(self) -> tuple[bool, ...]:
        """Whether each one's result decides shapes or control flow."""
        return tuple(bool(_DATA_DEPENDENT.match(name)) for name in self.reason)


def find_syncs(run: Run, steady: Steady) -> Syncs:
    """Blocking calls of the steady steps that read from or wait for the device, copies to the device left out."""
    rows = steady.issued(
        run, distinct(np.concatenate((run.host.blocking_rows, blocking_reads(run.trace, run.activity, run.launches))))
    )
    rows = rows[~_belongs_to_upload(run, rows)]
    rows = rows[(under(run, rows, FETCH) < 0) & _followed_by_work(run, rows)]
    top = under(run, rows, _REASON)
    outer = top.copy()
    while True:  # the outermost reason: aten::item, not the aten::_local_scalar_dense inside it
        higher = under(run, outer, _REASON)
        if not (higher >= 0).any():
            break
        outer = np.where(higher >= 0, higher, outer)
    owner = np.where(outer >= 0, outer, under(run, rows, _ANY_OP))
    named = (run.trace.name_of(o if o >= 0 else r) for o, r in zip(owner.tolist(), rows.tolist(), strict=True))
    reason = tuple(plain_call(name) for name in named)
    return Syncs(rows, owner, reason)


def upload_syncs(run: Run, calls: Rows) -> Rows:
    """Synchronisations that PyTorch issues right after these blocking upload calls (-1: none), inside the same operator."""
    events = run.trace.events
    calls = distinct(calls[calls >= 0])
    parents = run.ops.parent[calls]
    rows = run.host.blocking_rows
    mine = rows[np.isin(run.ops.parent[rows], parents[parents >= 0])]
    return without(mine, calls).astype(np.int64) if len(events) else mine


def _belongs_to_upload(run: Run, rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether each call is an upload, or the synchronisation after one: those are a matter of how batches are copied."""
    names = run.trace.events.name[run.activity.row]
    uploads = np.isin(names, ids_matching(run.trace, TO_DEVICE)) & (run.launches.call >= 0)
    calls = run.launches.call[uploads].astype(np.int64)
    return np.isin(rows, np.concatenate((calls, upload_syncs(run, calls))))


def _followed_by_work(run: Run, rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether anything is launched after each call: the wait at the end of a recording delays nothing."""
    calls = run.launches.call[run.launches.call >= 0]
    last = int(run.trace.events.start[calls].max()) if len(calls) else 0
    return run.trace.events.end[rows] <= last
