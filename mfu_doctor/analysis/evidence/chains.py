"""Chains of pointwise kernels: each reads what the one before it just wrote, which one fused kernel would keep in registers."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import of_events, spans_of, work_of
from mfu_doctor.analysis.evidence.backward import maker_of
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, Steady, under
from mfu_doctor.analysis.names.autograd import ACCUMULATE_CALL, NODE_CALL
from mfu_doctor.analysis.names.vocabulary import ids_matching, rows_matching
from mfu_doctor.analysis.replay.edits import Edit, MergeLaunches
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.analysis.views.once import once
from mfu_doctor.arrays.distinct import numbered_together
from mfu_doctor.arrays.intervals import Intervals
from mfu_doctor.trace import Category
from mfu_doctor.units import NS_PER_S, NS_PER_US

Floats = npt.NDArray[np.float64]

# A pair fuses into little; three kernels make six passes over memory where two would do. What one call of the library is made of
# (a dropout, a GRU on a CPU) is one member: nobody can fuse it from outside.
SHORTEST = 3
_LIBRARY = re.compile(r"^aten::")
_ELSEWHERE = re.compile(rf"^Optimizer\.|{ACCUMULATE_CALL.pattern}|_foreach_|_fused_")
# Operators that compute much per element even in vector instructions, or draw random numbers; what others take beyond their
# traffic is waiting for memory (fresh pages, caches, other cores), which goes with the pass.
_COSTLY = re.compile(
    r"^aten::_?(tanh|sigmoid|log_sigmoid_forward|exp|exp2|expm1|log|log2|log10|log1p|erf|erfc|erfinv|pow|a?sinh?|a?cosh?|tan|atan2?"
    r"|gelu|gelu_backward|silu|silu_backward|mish|mish_backward|softplus|softplus_backward|elu|elu_backward|celu|selu|logit|lgamma|digamma"
    r"|bernoulli|native_dropout|normal|log_normal|uniform|exponential|geometric|cauchy|random)_?$"
)
# A pass that takes this long is memory traffic: dispatching an operator takes 1 to 2 us.
_LONG_PASS_NS = 20 * NS_PER_US
# What a fused chain takes: cautious, usual, ideal share of the time between what it must take and what it takes now.
_EXCESS_LEFT = (0.5, 0.25, 0.0)


class Chains(Struct, frozen=True):
    """Chains of pointwise work in all recorded steps.

    Attributes:
        entry: index into the activity table of each member, shape (k,).
        group: number of its chain, shape (k,), from 0.
        length_ns: recorded time of each member, shape (k,).
        total_ns: time of each chain now, without recording, shape (chains,).
        fused_ns: what each must take as one kernel, shape (chains,): its longest member; on a CPU also what the others compute.
    """

    entry: Rows
    group: Rows
    length_ns: Floats
    total_ns: Rows
    fused_ns: Rows

    def per_step_ns(self, run: Run, steady: Steady) -> float:
        """Device time per steady step of all members."""
        return steady.per_step(float(self.length_ns[steady.entries(run)[self.entry]].sum()))

    def count_in(self, run: Run, steady: Steady) -> int:
        """Chains that begin in the steady steps."""
        first = np.concatenate((np.ones(1, np.bool_), np.diff(self.group) != 0))
        return int(steady.entries(run)[self.entry[first]].sum())


@once
def pointwise_chains(run: Run) -> Chains | None:
    """Runs of pointwise entries of at least SHORTEST calls that follow each other on their stream, outside the optimizer."""
    activity = run.activity
    work = activity.kind == COMPUTE
    if run.is_cpu:  # wrappers (autograd's nodes, views) have a little time of their own and touch no memory
        work &= ~run.kernels.is_kind("other")
    candidates = np.flatnonzero(work)
    # in issue order per stream, with time deciding: a chain is broken by anything else that computes
    order = candidates[np.lexsort((activity.start[candidates], activity.track[candidates]))]
    fits = run.kernels.is_kind("elementwise") & ~work_of(run, _ELSEWHERE)
    return _chains(run, _whole_operators(run, order, fits) if run.is_cpu else order, fits)


def _whole_operators(run: Run, order: Rows, fits: Mask) -> Rows:
    """On a CPU: each operator once, at its first stretch, without what runs inside a pointwise one (a scalar made a tensor)."""
    rows = run.activity.row[order]
    pointwise = np.zeros(len(run.trace.events) + 1, np.bool_)
    pointwise[rows[fits[order]]] = True
    inside = np.zeros(len(order), np.bool_)
    up = run.ops.parent[rows].astype(np.int64)
    while (up >= 0).any():
        inside |= pointwise[up]  # the last place stands for "no parent" and is never pointwise
        up = np.where(up >= 0, run.ops.parent[np.maximum(up, 0)], -1)
    order = order[~inside]
    _, first = np.unique(run.activity.row[order], return_index=True)
    return order[np.sort(first)]


def _chains(run: Run, order: Rows, fits: Mask) -> Chains | None:
    if not len(order):
        return None
    activity = run.activity
    mine = fits[order]
    breaks = np.concatenate((np.ones(1, np.bool_), (np.diff(activity.track[order]) != 0) | ~mine[:-1]))
    number = np.cumsum(breaks | ~mine) - 1
    pairs, _ = numbered_together(number[mine], _calls(run, order[mine]))
    size = np.bincount(number[mine][pairs], minlength=int(number.max()) + 1 if len(number) else 0)
    keep = mine & (size[number] >= SHORTEST)
    if not keep.any():
        return None
    entry = order[keep]
    _, group = np.unique(number[keep], return_inverse=True)
    length = of_events(run, entry, (activity.end - activity.start).astype(np.float64))
    plain = of_events(run, entry, run.unrecorded_ns)
    total = np.bincount(group, plain).astype(np.int64)
    return Chains(entry, group.astype(np.int64), length, total, _fused_ns(run, entry, group, plain))


def _calls(run: Run, entry: Rows) -> Rows:
    """For each entry the outermost operator of the library that it belongs to; in backward that of the forward operator.

    An entry of no operator is a call of its own.
    """
    op = run.launches.op[entry]
    calls = rows_matching(run.trace, NODE_CALL, run.trace.rows(Category.CPU_OP))
    maker = np.append(maker_of(run, calls), -1)
    node = under(run, op, NODE_CALL)
    at = np.minimum(np.searchsorted(calls, node), len(calls))
    made = np.where(node >= 0, maker[at], -1)
    outer = _outermost_call(run, np.where(made >= 0, made, op))
    return np.where(outer >= 0, outer, -2 - entry)


def _outermost_call(run: Run, rows: Rows) -> Rows:
    """For each row itself, or the outermost operator of the library around it; -1 stays."""
    library = np.zeros(len(run.trace.names) + 1, np.bool_)
    library[ids_matching(run.trace, _LIBRARY)] = True
    found, up = rows.copy(), rows
    while (up >= 0).any():
        up = np.where(up >= 0, run.ops.parent[np.maximum(up, 0)], -1).astype(np.int64)
        found = np.where((up >= 0) & library[run.trace.events.name[np.maximum(up, 0)]], up, found)
    return found


def _fused_ns(run: Run, entry: Rows, group: Rows, length: Floats) -> Rows:
    """What each chain must take as one kernel.

    Fusing spares the others of a chain their passes over memory. A GPU's pointwise kernel is nothing else. On a CPU the measured
    bandwidth says what a pass takes; the rest of a costly operator's time (tanh, exp) is arithmetic that stays, that of a cheap
    one is dispatch, and what waiting for memory adds to a pass (see `_waiting`).
    """
    stays = np.zeros(len(length))
    if run.is_cpu and run.peaks.bandwidth:
        passes = of_events(run, entry, run.least_bytes) / run.peaks.bandwidth * NS_PER_S
        costly = np.isin(run.trace.events.name[run.activity.row[entry]], ids_matching(run.trace, _COSTLY))
        spared = np.where(costly, passes, passes * _waiting(length[~costly], passes[~costly]))
        stays += length - np.fmin(length, spared)
    longest = np.lexsort((-length, group))
    longest = longest[np.concatenate((np.ones(1, np.bool_), np.diff(group[longest]) != 0))]
    stays[longest] = length[longest]
    fused: Rows = np.bincount(group, stays).astype(np.int64)
    return fused


def _waiting(length: Floats, passes: Floats) -> float:
    """How many times its traffic at full bandwidth a pass takes in this run: fresh pages, caches, other cores; at least 1.

    Only long passes tell: a short operator takes what dispatching it takes.
    """
    long = passes >= _LONG_PASS_NS
    return max(float(np.median(length[long] / passes[long])), 1.0) if long.any() else 1.0


def fused(run: Run, chains: Chains) -> tuple[tuple[Edit, ...], tuple[Edit, ...], tuple[Edit, ...]]:
    """Each chain as one operation, at the low, mid and high end; the host time of its operators shrinks with it."""
    mask = np.zeros(run.activity.count, np.bool_)
    mask[chains.entry] = True
    spans = spans_of(run, mask)
    host = spans - run.activity.busy() if run.is_cpu else spans
    kept = float(len(chains.total_ns)) / len(chains.entry)
    return (
        (_merged(run, chains, host, (_EXCESS_LEFT[0], 1.0)),),
        (_merged(run, chains, host, (_EXCESS_LEFT[1], kept)),),
        (_merged(run, chains, host, (_EXCESS_LEFT[2], kept)),),
    )


def _merged(run: Run, chains: Chains, host: Intervals, left: tuple[float, float]) -> MergeLaunches:
    """`left`: share of the time that fusing can spare, and of the host time, that stays."""
    after = chains.fused_ns + left[0] * (chains.total_ns - chains.fused_ns)
    rows = run.activity.row[chains.entry]
    return MergeLaunches(rows, chains.group, after.astype(np.int64), host, left[1])
