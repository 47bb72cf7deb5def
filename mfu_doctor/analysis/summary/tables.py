"""Time by name: kernels, operators and modules, averaged over the steady steps, longest first.

A user checks a finding with these tables. So each row has time, count, FLOPs, memory traffic, and the share of the peak of its
own dtype.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.kernel_names import KINDS
from mfu_doctor.analysis.names.vocabulary import LABEL, ids_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED, SKIPPED
from mfu_doctor.analysis.views.groups import on_each
from mfu_doctor.analysis.views.kernels import DTYPE_CODES
from mfu_doctor.analysis.views.steps import WHOLE, issue_time
from mfu_doctor.arrays.distinct import numbered
from mfu_doctor.arrays.intervals import union
from mfu_doctor.result.stated_mfu import peak_share
from mfu_doctor.result.step import KernelRow, OpRow
from mfu_doctor.trace import Category
from mfu_doctor.units import NS_PER_S

Floats = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

TOP = 30
_MODULE = re.compile(r"^nn\.Module: ")


class _Steady(Struct, frozen=True):
    """What of each entry of `Activity` lies in the steady windows, each as often as it stands in the mean step."""

    steps: int
    duration_ns: Floats  # (n,)
    part: Floats  # (n,) of each entry's own duration
    step_s: float  # mean steady step


def kernel_rows(run: Run) -> tuple[KernelRow, ...]:
    """Kernels (on a CPU: operators) by name, the longest `TOP`, per step."""
    steady = _steady(run)
    inside = np.flatnonzero(steady.part > 0)
    name = run.trace.events.name[run.activity.row[inside]]
    groups, which = numbered(name)
    spent = np.bincount(which, steady.duration_ns[inside], minlength=len(groups))
    work = _work(run)
    moved = run.least_bytes
    longest = np.argsort(-spent, kind="stable")[:TOP]
    return tuple(_kernel_row(run, steady, inside[which == g], (work, moved)) for g in longest.tolist())


def op_rows(run: Run) -> tuple[OpRow, ...]:
    """Operators by name, the longest `TOP`, per step: their own host time, and the device time of kernels they launched."""
    trace, steady = run.trace, _steady(run)
    rows, own, often = _host_self_time(run)
    size = len(trace.names)
    host = np.bincount(trace.events.name[rows], own * often, minlength=size)
    count = np.bincount(trace.events.name[rows], often, minlength=size)
    known = np.flatnonzero((run.launches.op >= 0) & (steady.part > 0))
    owner = trace.events.name[run.launches.op[known]]
    device = np.bincount(owner, steady.duration_ns[known], minlength=size)
    bearing = np.flatnonzero((run.flops.owner >= 0) & (steady.part > 0))
    counted = trace.events.name[run.flops.ops.row[run.flops.owner[bearing]]]
    flops = np.bincount(counted, (_work(run) * steady.part)[bearing], minlength=size)
    longest = [i for i in np.argsort(-np.maximum(host, device), kind="stable")[:TOP].tolist() if count[i] or device[i]]
    scale = steady.steps * NS_PER_S
    return tuple(
        OpRow(
            name=trace.names[i],
            host_s=float(host[i]) / scale,
            device_s=float(device[i]) / scale,
            count=float(count[i]) / steady.steps,
            flops=float(round(flops[i] / steady.steps)) if flops[i] else None,
        )
        for i in longest
    )


def module_rows(run: Run) -> tuple[OpRow, ...]:
    """Modules by name, the longest `TOP`, per step, from the profiler's stacks; () if none were recorded.

    Times include submodules. Only what a module's `forward` launches is its own: gradients run on autograd's thread.
    """
    trace, steps = run.trace, run.steps
    frames = trace.frames(ids_matching(trace, _MODULE))
    lasting, often = _lasting(run, frames)
    frames, lasting, often = frames[often > 0], lasting[often > 0], often[often > 0]
    if not len(frames):
        return ()
    device, flops = _launched_inside(run, frames)
    size, n = len(trace.names), int(steps.weight.sum())
    of = trace.events.name[frames]
    host = np.bincount(of, lasting * often, minlength=size)
    count = np.bincount(of, often, minlength=size)
    on_device = np.bincount(of, device * often, minlength=size)
    done = np.bincount(of, flops * often, minlength=size)
    longest = [i for i in np.argsort(-np.maximum(host, on_device), kind="stable")[:TOP].tolist() if count[i]]
    return tuple(
        OpRow(
            name=trace.names[i].removeprefix("nn.Module: "),
            host_s=float(host[i]) / n / NS_PER_S,
            device_s=float(on_device[i]) / n / NS_PER_S,
            count=float(count[i]) / n,
            flops=float(round(done[i] / n)) if done[i] else None,
        )
        for i in longest
    )


def _steady(run: Run) -> _Steady:
    steps, activity = run.steps, run.activity
    inside = steps.overlap(activity.start, activity.end)
    part = inside / np.maximum(activity.end - activity.start, 1)
    return _Steady(int(steps.weight.sum()), inside, part, steps.mean_ns / NS_PER_S)


def _work(run: Run) -> Floats:
    """FLOP that each entry really computes: recomputation included, skipped masks not; shape (n,)."""
    return run.flops.per_entry(EXECUTED) - run.flops.per_entry(SKIPPED)


def _kernel_row(run: Run, steady: _Steady, entries: Int64, known: tuple[Floats, Floats]) -> KernelRow:
    work, moved = known
    spent, part = steady.duration_ns[entries], steady.part[entries]
    scale = NS_PER_S * steady.steps
    total_s = float(spent.sum()) / scale
    running = union(run.activity.start[entries], run.activity.end[entries])  # several can run at once
    flops = float(round((work[entries] * part).sum() / steady.steps))  # a count: no float noise
    traffic = float((moved[entries] * part).sum()) / steady.steps
    size = None if np.isnan(traffic) else traffic
    dtype = DTYPE_CODES[_most(run.kernels.dtype[entries], spent)]
    achieved = flops / total_s if flops and total_s else None
    peak = run.peaks.of(dtype)
    op = run.launches.op[entries]
    owner = _most(np.where(op >= 0, run.trace.events.name[np.maximum(op, 0)], len(run.trace.names)), spent)
    kind = KINDS[_most(run.kernels.kind[entries], spent)]
    return KernelRow(
        name=run.trace.name_of(int(run.activity.row[entries[0]])),
        kind=kind,
        seconds=total_s,
        share=float(run.steps.overlap(running.start, running.end).sum()) / scale / steady.step_s,
        count=_calls(run, entries, part) / steady.steps,
        dtype=dtype,
        flops=flops or None,
        achieved_flops_s=achieved,
        bytes=size,
        intensity=flops / size if flops and size else None,
        peak_share=peak_share(kind, achieved, peak),
        op=run.trace.names[owner] if owner < len(run.trace.names) and run.activity.is_device else None,
    )


def _calls(run: Run, entries: Int64, part: Floats) -> float:
    """Operations among these entries; on a CPU one operator has several stretches of self time."""
    if run.activity.is_device:
        return float(part.sum())
    rows, first = np.unique(run.activity.row[entries], return_index=True)
    return float(part[first].sum()) if len(rows) else 0.0


def _most(codes: npt.NDArray[np.integer], weight: Floats) -> int:
    """The code with most weight."""
    return int(np.bincount(codes.astype(np.int64), weight).argmax())


def _weight_at(run: Run, time: Int64) -> Int64:
    """How often the step in which the host was at each time stands in the mean one; 0 outside of steady steps."""
    steps = run.steps
    start, end, weight = (column[steps.steady] for column in (steps.host_start, steps.host_end, steps.weight))
    index = np.searchsorted(start, time, side="right") - 1
    held = np.maximum(index, 0)
    return np.where((index >= 0) & (time < end[held]), weight[held], 0)


def _lasting(run: Run, rows: Int64) -> tuple[Int64, Int64]:
    """Nanoseconds of each of these host events, and how often the step in which it began stands in the mean one.

    Of a trace without steps only what lies between its first and its last work: what is left out before is no part of it.
    """
    events, steps = run.trace.events, run.steps
    if steps.source != WHOLE:
        return events.lasting(rows), _weight_at(run, events.start[rows])
    first, last = steps.host_start[0], steps.host_end[0]
    start, end = np.maximum(events.start[rows], first), np.minimum(events.end[rows], last)
    return np.maximum(end - start, 0), (start <= end).astype(np.int64)


def _host_self_time(run: Run) -> tuple[Int64, Int64, Int64]:
    """Operator rows of the steady steps, the nanoseconds in which each was the innermost one of its thread, and its weight."""
    events = run.trace.events
    rows = run.trace.rows(Category.CPU_OP)
    rows = rows[~np.isin(events.name[rows], ids_matching(run.trace, LABEL))]
    duration, weight = _lasting(run, rows)
    own, around = duration.copy(), run.ops.parent[rows]
    at = np.minimum(np.searchsorted(rows, around), len(rows) - 1)
    inside = rows[at] == around
    np.subtract.at(own, at[inside], duration[inside])
    return rows[weight > 0], np.maximum(own, 0)[weight > 0], weight[weight > 0]


def _launched_inside(run: Run, frames: Int64) -> tuple[Floats, Floats]:
    """Device nanoseconds and FLOPs of what was launched inside each frame on its thread; arrays shaped like `frames`."""
    events, activity = run.trace.events, run.activity
    issued = issue_time(run.trace, activity, run.launches)
    row = np.where(run.launches.call >= 0, run.launches.call, run.launches.op)
    known = np.flatnonzero((row >= 0) & (issued >= 0))
    known = known[np.argsort(issued[known], kind="stable")]
    device, flops = np.zeros(len(frames)), np.zeros(len(frames))
    for here, launched in on_each(events.track[frames], events.track[row[known]]):
        mine = known[launched]
        lo = np.searchsorted(issued[mine], events.start[frames[here]], side="left")
        hi = np.searchsorted(issued[mine], events.end[frames[here]], side="left")
        for values, out in (((activity.end - activity.start)[mine], device), (_work(run)[mine], flops)):
            upto = np.concatenate((np.zeros(1), np.cumsum(values)))
            out[here] = upto[hi] - upto[lo]
    return device, flops
