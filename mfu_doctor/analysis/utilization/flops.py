"""The FLOPs of each step and of each device operation, and for how much of the time they are known.

Every operator call is counted once. Its FLOPs are divided among the matmul-like kernels that it launched, by duration
(auxiliary kernels get none). From there they go to the step windows in which these kernels ran, in proportion to the overlap.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.utilization.counted_ops import (
    BACKWARD,
    FORWARD,
    PHASES,
    RECOMPUTE,
    CountedOps,
    find_counted_ops,
    without_stopped,
)
from mfu_doctor.analysis.utilization.unknown_flops import UnknownOp, unknown_ops, why_nothing
from mfu_doctor.analysis.views.activity import COMPUTE, Activity
from mfu_doctor.analysis.views.kernels import DTYPE_CODE, DTYPE_CODES, KernelTable
from mfu_doctor.analysis.views.step_windows import Steps
from mfu_doctor.analysis.views.work import Work

Floats = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

MODEL, CAUSAL, EXECUTED, SKIPPED = range(4)  # last axis of every count (see OpFlops)
MEASURES = 4


class FlopCount(Struct, frozen=True):
    """FLOPs per step and per entry of `Activity` (shape (n,)); the unit is FLOP, one multiply-accumulate being two."""

    ops: CountedOps
    tally: Floats  # (steps, PHASES, DTYPE_CODES, MEASURES): FLOP in each window, exact if no call straddles its edge
    owner: Int64  # (n,) index into `ops` of the call whose FLOPs the entry bears, -1: none
    share: Floats  # (n,) part of that call's FLOPs that the entry bears
    dtype: npt.NDArray[np.uint8]  # (calls,) code of the dtype that each counted call ran in
    window: Int64  # (calls,) step in which each counted call began on the device, -1: outside or no device work
    weight: Int64  # (steps,) how often each stands in the mean count
    uncounted: npt.NDArray[np.bool_]  # (n,) matmul-like entries whose FLOPs are unknown
    counted_ns: Int64  # (steps,) device time of matmul-like work with counted FLOPs
    unknown_ns: Int64  # (steps,) the same with unknown FLOPs
    unknown: tuple[UnknownOp, ...]  # longest first
    reason: str | None  # why nothing (or nothing complete) could be counted

    def flops(self, measure: int = MODEL, phase: int | None = None) -> float:
        """FLOP of the mean step under a measure, of one phase or all."""
        where = self.tally if phase is None else self.tally[:, phase : phase + 1]
        return self.mean(where[..., measure].sum(axis=(1, 2)))

    def by_dtype(self, measure: int = MODEL) -> dict[str | None, float]:
        """FLOP of the mean step by the dtype that they ran in (None: unknown)."""
        of_steps = self.tally[..., measure].sum(axis=1)
        means = [self.mean(of_steps[:, code]) for code in range(len(DTYPE_CODES))]
        return {dtype: flops for dtype, flops in zip(DTYPE_CODES, means, strict=True) if flops}

    def mean(self, values: Floats | Int64) -> float:
        """The mean step's part of what each step has, shape (steps,); exact if all steps have the same."""
        total: float = sum(v * w for v, w in zip(values.tolist(), self.weight.tolist(), strict=True))
        return total / int(self.weight.sum())

    @property
    def coverage(self) -> float | None:
        """Share of matmul-like device time whose FLOPs are counted; None if nothing matmul-like ran."""
        counted, unknown = int(self.counted_ns.sum()), int(self.unknown_ns.sum())
        return counted / (counted + unknown) if counted + unknown else None

    def per_entry(self, measure: int = MODEL) -> Floats:
        """FLOP that each entry bears, not clipped to any window; shape (n,)."""
        values = _measures(self.ops)[:, measure]
        return np.where(self.owner >= 0, np.append(values, 0.0)[self.owner] * self.share, 0.0)


def count_flops(work: Work) -> FlopCount:
    """Count the FLOPs of a run from its operators' recorded shapes."""
    activity, steps, kernels = work.activity, work.steps, work.kernels
    ops = find_counted_ops(work.trace, work.ops)
    if not activity.is_device:
        ops = without_stopped(ops, work.trace)
    enclosing = ops.owners(work.ops, work.launches.op)
    bearing = _bearing(activity, kernels, enclosing, len(ops.row))
    owner = np.where(bearing, enclosing, -1)
    share = _shares(activity, owner, len(ops.row))
    dtype = _call_dtypes(activity, kernels, owner, ops)
    tally, window = _tally(activity, steps, owner, share, _Calls(ops, dtype))
    matmul_like = kernels.matmul_like & (activity.kind == COMPUTE)
    uncounted = matmul_like & (enclosing < 0)
    if not activity.is_device:  # `linear` around a counted `addmm` is a wrapper with a little time of its own
        uncounted &= ~ops.wrappers(work.ops)[activity.row]
    unknown = unknown_ops(work, enclosing, uncounted)
    counted = bearing | (matmul_like & (enclosing >= 0))  # a formula makes a kernel a matmul, whatever its name says
    unknown_ns = _in_windows(activity, steps, uncounted)
    return FlopCount(
        ops=ops,
        tally=tally,
        owner=owner,
        share=share,
        dtype=dtype,
        window=window,
        weight=_counted_weight(steps, unknown_ns),
        uncounted=uncounted,
        counted_ns=_in_windows(activity, steps, counted),
        unknown_ns=unknown_ns,
        unknown=unknown,
        reason=None if bearing.any() else why_nothing(work.trace, ops, unknown),
    )


def _counted_weight(steps: Steps, unknown_ns: Int64) -> Int64:
    """How often each step stands in the mean count: long steps with unknown FLOPs do not, if all of a usual step is known.

    What such a step has besides (an evaluation, a rollout) is not work of the training step, and shapes were recorded of that.
    """
    usual = steps.steady & ~steps.long
    if unknown_ns[usual].any():
        return steps.weight
    return np.where(steps.long & (unknown_ns > 0), 0, steps.weight)


class _Calls(Struct, frozen=True):
    """The counted calls with the dtype that each ran in."""

    ops: CountedOps
    dtype: npt.NDArray[np.uint8]


def _measures(ops: CountedOps) -> Floats:
    """Model, causal, executed and skipped FLOP of each call, shape (calls, MEASURES); recomputation is no model work.

    A float64 has every integer that a step's FLOPs can be (up to 9 PFLOP), and no end where nonsense in a file overflows.
    """
    table = np.array([(c.model, c.causal, c.executed, c.skipped) for c in ops.costs], np.float64).reshape(-1, MEASURES)
    out = table[ops.cost]
    out[ops.phase == RECOMPUTE, MODEL] = 0
    out[ops.phase == RECOMPUTE, CAUSAL] = 0
    return out


def _bearing(activity: Activity, kernels: KernelTable, enclosing: Int64, calls: int) -> npt.NDArray[np.bool_]:
    """Which entries bear their call's FLOPs: its matmul-like ones; if it has none, all but its helpers; else all."""
    inside = (enclosing >= 0) & (activity.kind == COMPUTE)
    bearing = np.zeros(len(enclosing), np.bool_)
    served = np.zeros(calls + 1, np.bool_)  # the last one serves enclosing == -1
    for candidates in (
        kernels.matmul_like,
        ~kernels.is_kind("helper", "layout", "copy"),
        np.ones(len(enclosing), np.bool_),
    ):
        chosen = inside & candidates & ~served[enclosing]
        bearing |= chosen
        served[enclosing[chosen]] = True
    return bearing


def _shares(activity: Activity, owner: Int64, calls: int) -> Floats:
    """Each entry's part of its call, by duration (equal parts if all took no time); shape (n,)."""
    duration = np.where(owner >= 0, activity.end - activity.start, 0).astype(np.float64)
    total = np.bincount(owner[owner >= 0], duration[owner >= 0], minlength=calls + 1)
    count = np.bincount(owner[owner >= 0], minlength=calls + 1)
    by_time = duration / np.maximum(total[owner], 1.0)
    share = np.where(total[owner] > 0, by_time, 1.0 / np.maximum(count[owner], 1))
    return np.where(owner >= 0, share, 0.0)


def _call_dtypes(activity: Activity, kernels: KernelTable, owner: Int64, ops: CountedOps) -> npt.NDArray[np.uint8]:
    """Dtype of each call: that of its longest kernel, or of its operands if no kernel name says it."""
    by_operands = np.array([DTYPE_CODE.get(c.dtype, 0) for c in ops.costs], np.uint8)
    out = by_operands[ops.cost] if len(by_operands) else np.empty(0, np.uint8)
    entries = np.flatnonzero((owner >= 0) & (kernels.dtype > 0))
    longest_last = entries[np.argsort((activity.end - activity.start)[entries], kind="stable")]
    out[owner[longest_last]] = kernels.dtype[longest_last]
    return out


def _tally(activity: Activity, steps: Steps, owner: Int64, share: Floats, calls: _Calls) -> tuple[Floats, Int64]:
    """FLOP per window: whole calls as exact integers, straddling ones by the overlap of their entries (rounded)."""
    ops, dtype = calls.ops, calls.dtype
    measures = _measures(ops)
    shape = (steps.count, len(PHASES), len(DTYPE_CODES), MEASURES)
    exact, partial = np.zeros(shape), np.zeros(shape)
    entries = np.flatnonzero(owner >= 0)
    call = owner[entries]
    begin = np.searchsorted(steps.start, activity.start[entries], side="right") - 1
    inside = (begin >= 0) & (activity.end[entries] <= steps.end[np.maximum(begin, 0)])
    begin = np.where((begin >= 0) & (activity.start[entries] < steps.end[np.maximum(begin, 0)]), begin, -1)
    first = np.full(len(ops.row), steps.count, np.int64)
    last = np.full(len(ops.row), -1, np.int64)
    np.minimum.at(first, call, np.where(begin >= 0, begin, steps.count))
    np.maximum.at(last, call, begin)
    whole = np.ones(len(ops.row), np.bool_)
    np.logical_and.at(whole, call, inside & (begin >= 0))
    whole &= (first == last) & (last >= 0)
    one = np.flatnonzero(whole)
    np.add.at(exact, (first[one], ops.phase[one], dtype[one]), measures[one])
    rest = entries[~whole[call]]
    started, ended = activity.start[rest], np.maximum.accumulate(activity.end[rest])  # entries are sorted by start
    for step in range(steps.count):
        lo, hi = int(steps.start[step]), int(steps.end[step])
        near = rest[np.searchsorted(ended, lo) : np.searchsorted(started, hi)]
        part = (share[near] * _overlap(activity, near, lo, hi))[:, None] * measures[owner[near]]
        np.add.at(partial[step], (ops.phase[owner[near]], dtype[owner[near]]), part)
    window = np.where(first < steps.count, first, -1)
    return exact + np.rint(partial), window


def _overlap(activity: Activity, entries: Int64, start: int, end: int) -> Floats:
    """Part of each entry that lies in ``[start, end)``; an entry without duration counts where it is."""
    lo, hi = activity.start[entries], activity.end[entries]
    length = np.maximum(hi - lo, 0)
    inside = np.clip(np.minimum(hi, end) - np.maximum(lo, start), 0, None)
    point = ((lo >= start) & (lo < end)).astype(np.float64)
    return np.where(length > 0, inside / np.maximum(length, 1), point)


def _in_windows(activity: Activity, steps: Steps, mask: npt.NDArray[np.bool_]) -> Int64:
    """Summed duration of these entries inside each window, ns, shape (steps,)."""
    lo, hi = np.sort(activity.start[mask]), np.sort(activity.end[mask])
    return _summed_before(lo, hi, steps.end) - _summed_before(lo, hi, steps.start)


def _summed_before(lo: Int64, hi: Int64, time: Int64) -> Int64:
    """How much all entries together (sorted starts, sorted ends) have run before each time, ns.

    Intermediate sums may wrap around in a huge trace; the differences that are returned are exact all the same.
    """
    begun, done = np.searchsorted(lo, time), np.searchsorted(hi, time)
    starts, ends = (np.concatenate((np.zeros(1, np.int64), np.cumsum(column))) for column in (lo, hi))
    summed: Int64 = begun * time - starts[begun] - (done * time - ends[done])
    return summed


__all__ = [
    "BACKWARD",
    "CAUSAL",
    "EXECUTED",
    "FORWARD",
    "MODEL",
    "RECOMPUTE",
    "SKIPPED",
    "FlopCount",
    "count_flops",
]
