"""The anomaly detection of autograd is on.

What it measures
    Whether torch.is_anomaly_enabled() was True while a recorded step ran, or whether backward looks for NaN after its nodes, and
    the time that it added: operators that check every gradient for NaN, and the stack trace that is formatted when an operator is
    recorded for backward.

Why it costs
    Each differentiable operator formats a Python stack trace, the longer the deeper it is in modules, and each gradient is read
    once more.

How the gain is predicted
    The NaN checks in backward are removed, and so is the time of the stack traces. Autograd formats one in the operator that adds
    a node to the graph, which is the last one with the sequence number of that node.
    Low: each of these operators loses what the nearest view (t, view, expand, ...) lost: a view computes nothing, so its time
    above 2 us is the stack trace.
    Mid and high: each takes only what its work takes at half of the device's rates, and 2 us. If its work is unknown, as low.
    The operators of backward too: they are slower while each gradient is searched and stack traces are freed between them. The
    search itself shows how fast this run reads memory, where the bandwidth of the machine was measured lower.
    Replay gives the new step time.

How to fix
    Delete torch.autograd.set_detect_anomaly(True), `with torch.autograd.detect_anomaly():` or Trainer(detect_anomaly=True), or
    keep it only in the few steps that you debug.

When it is wrong
    The rule is wrong if anomaly detection is on to find a NaN.

References
    https://pytorch.org/docs/stable/autograd.html#anomaly-detection
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.backward import in_backward, node_makers
from mfu_doctor.analysis.evidence.steady_steps import Rows, steady_of, under
from mfu_doctor.analysis.names.autograd import NODE, NODE_CALL
from mfu_doctor.analysis.names.vocabulary import ids_matching, rows_matching
from mfu_doctor.analysis.replay.edits import Change, ScaleDevice, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED
from mfu_doctor.analysis.views.kernels import DTYPE_CODES
from mfu_doctor.arrays.distinct import without
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.trace import Category
from mfu_doctor.units import NS_PER_S, NS_PER_US, seconds

# Operators of the search: isnan is written as `x != x`, then any().item() decides.
_SEARCH = re.compile(r"^aten::(isnan|ne|any|is_nonzero|item|_local_scalar_dense)$")
_COMPARES = re.compile(r"^aten::ne$")
_LARGE_BYTES = 100_000  # moving them takes longer than dispatching the comparison
_ANSWER = re.compile(r"^aten::any$")  # once a search
_VIEW = re.compile(
    r"^aten::(t|view|_unsafe_view|transpose|expand|unsqueeze|squeeze|slice|select|permute|as_strided|detach|alias|split\w*|unbind)$"
)
_HALF_RATE = 0.5
# A view without anomaly mode takes about this long on the host.
_PLAIN_VIEW_NS = 2 * NS_PER_US


@rule("anomaly-mode", "HO031", "anomaly detection is on", also=("detect-anomaly",))
def anomaly_mode(run: Run) -> Outcome:
    """Judge whether anomaly detection is on."""
    precision = run.facts.precision if run.facts is not None else None
    told = precision.anomaly_mode if precision is not None else None
    steady, searches = steady_of(run), _searches(run)
    searched = steady.per_step(len(steady.issued(run, rows_matching(run.trace, _ANSWER, searches))))
    if not told and not searched:
        return Skip("anomaly detection was not recorded: it may be on or off") if told is None else None
    stacks = _stacks(run)
    each = steady.issued(run, stacks.row)
    gone = ScaleDevice(searches, np.zeros(len(searches)))
    low = (gone, SetDevice(stacks.row, stacks.low_ns))
    mid = (gone, SetDevice(stacks.row, stacks.mid_ns), _searched_nodes(run, searches, stacks.row))
    own = np.isin(stacks.row, each)
    spent = float((stacks.now_ns - stacks.mid_ns)[own].sum()) / max(int(own.sum()), 1)
    return Finding(
        summary="Anomaly detection is on: it formats a stack trace per operator and checks every gradient for NaN",
        fix="torch.autograd.set_detect_anomaly(False)  # and no `with torch.autograd.detect_anomaly():` around the step",
        decides=Ends(
            low="only the stack traces go that views show", high="operators of backward then take what their work needs"
        ),
        change=Change(low, mid, mid),
        evidence=(shown("NaN checks", searched, "per step"), shown("stack trace per operator", seconds(spent), "s")),
        effort="line",
    )


def _searches(run: Run) -> Rows:
    """Rows of the operators of the NaN searches: those that the engine runs after a node's own, with all that they call."""
    rows = run.trace.rows(Category.CPU_OP)
    rows = rows[in_backward(run, rows)]
    innermost = under(run, rows, NODE)
    rows = rows[np.isin(run.trace.events.name[innermost], ids_matching(run.trace, NODE_CALL))]
    named = np.isin(rows, rows_matching(run.trace, _SEARCH, rows))
    return rows[named | (under(run, rows, _SEARCH) >= 0)]


class _Stacks(Struct, frozen=True):
    """Operators that added a node to the graph, shape (n,): their rows, and what each takes now and without a stack trace."""

    row: Rows
    now_ns: Rows
    low_ns: Rows
    mid_ns: Rows


def _searched_nodes(run: Run, searches: Rows, stacks: Rows) -> SetDevice:
    """The other operators of backward at the rates of the device."""
    rows = without(run.activity.row, np.concatenate((searches, stacks)))
    rows = rows[in_backward(run, rows)]
    now, work = _own_ns(run)[rows], _work_ns(run)[rows]
    known = work > 0
    return SetDevice(rows[known], np.minimum(now, work + _PLAIN_VIEW_NS)[known].astype(np.int64))


def _own_ns(run: Run) -> npt.NDArray[np.float64]:
    """What each event takes without the profiler, in nanoseconds."""
    own: npt.NDArray[np.float64] = np.bincount(run.activity.row, run.unrecorded_ns, len(run.trace.events)).astype(float)
    return own


def _stacks(run: Run) -> _Stacks:
    rows = node_makers(run)
    rows = np.sort(rows[np.isin(rows, run.activity.row)])  # rows are in the order of time
    own = _own_ns(run)
    now = own[rows]
    lost = _nearest_view(run, rows, own)
    low = np.minimum(np.maximum(now - lost, _PLAIN_VIEW_NS), now)
    work = _work_ns(run)[rows]
    mid = np.where(np.isnan(work), low, np.minimum(low, work + _PLAIN_VIEW_NS))
    return _Stacks(rows, now.astype(np.int64), low.astype(np.int64), mid.astype(np.int64))


def _nearest_view(run: Run, rows: Rows, own: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What the view nearest in time to each of these operators (in time order) took for its stack trace, in nanoseconds."""
    view = np.flatnonzero(np.isin(rows, rows_matching(run.trace, _VIEW, rows)))
    if not len(view):
        return np.zeros(len(rows))
    time = run.trace.events.start[rows]
    after = np.clip(np.searchsorted(view, np.arange(len(rows))), 1, max(len(view) - 1, 1))
    before, after = view[after - 1], view[np.minimum(after, len(view) - 1)]
    nearest = np.where(time - time[before] <= time[after] - time, before, after)
    lost: npt.NDArray[np.float64] = np.maximum(own[rows[nearest]] - _PLAIN_VIEW_NS, 0.0)
    return lost


def _bandwidth(run: Run) -> float:
    """Bytes per second: what the machine was measured to read, or what the search reads of large gradients if that is more."""
    named = np.isin(run.activity.row, rows_matching(run.trace, _COMPARES, run.activity.row))
    large = named & (run.least_bytes >= _LARGE_BYTES) & (run.unrecorded_ns > 0)
    seen = np.median(run.least_bytes[large] / run.unrecorded_ns[large]) * NS_PER_S if large.any() else np.nan
    return float(np.fmax(run.peaks.bandwidth or np.nan, seen))


def _work_ns(run: Run) -> npt.NDArray[np.float64]:
    """For each event what its own work takes at half of the rates of the device; NaN if that is unknown."""
    peak = np.array([run.peaks.of(dtype) or np.nan for dtype in DTYPE_CODES])[run.kernels.dtype]
    flops = run.flops.per_entry(EXECUTED)
    computing = np.where(flops > 0, flops / peak, np.nan)
    moving = run.least_bytes / _bandwidth(run)
    work = np.fmax(computing, moving) / _HALF_RATE * NS_PER_S
    moves = ~np.isin(run.trace.events.name[run.activity.row], ids_matching(run.trace, _VIEW))
    total = np.bincount(run.activity.row, np.where(moves, work, 0.0), minlength=len(run.trace.events))
    known: npt.NDArray[np.float64] = total.astype(np.float64)
    return known
