"""The loop of a trace without step marks: a sequence of operations that repeats, and is neither a layer nor a loop in a step.

Repeating names alone do not tell a training loop from the layers of one forward pass. A loop also fills the time in which the
trace has work, each of its rounds begins in a module call of its own, and nothing has to come both before and after it: a
model has an embedding before its layers and a head after them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import LABEL, ids_matching, rows_matching
from mfu_doctor.analysis.views.activity import Activity
from mfu_doctor.analysis.views.groups import on_each
from mfu_doctor.analysis.views.launches import Launches
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.arrays.intervals import union
from mfu_doctor.trace import Category, Trace

Rows = npt.NDArray[np.int64]

_MIN_REPEATS = 3  # a period is used if it is seen at least so often
_REGULAR = 0.8  # share of repeats that must be equal, and of the time of all work that they must fill
_SANE = 0.5  # share of the work between the first and the last round that must be in equal rounds
_MIN_PERIOD = 8  # operations in a period: shorter ones are a loop inside a step
_MODULE = "nn.Module: "
# An odd multiplier of 64 bits with mixed ones and zeros (the golden ratio, as in splitmix64).
_BASE = 0x9E3779B97F4A7C15


class _Sequence(Struct, frozen=True):
    """The work of a trace in the order in which it was issued, shape (n,); on a CPU each operator once."""

    entry: Rows  # index into Activity, where the operation begins
    name: npt.NDArray[np.int32]
    issuer: Rows  # host row that issued it, -1 unknown
    call: Rows  # launch call, -1 unknown
    before: Rows  # (n + 1,) busy nanoseconds of the operations before each


class _Loop(Struct, frozen=True):
    """A repeating sequence: positions at which its rounds begin, which of the rounds are equal, and how long these are."""

    at: Rows
    equal: npt.NDArray[np.bool_]  # (len(at) - 1,) each round up to the next one
    period: int
    model: int  # position of one of the equal rounds
    first: int  # positions between which the trace is this loop, half-open: a round that was cut counts
    until: int

    def fills(self, size: int) -> bool:
        """Whether the trace of `size` operations is nothing but this loop."""
        return self.first == 0 and self.until == size


def loop_openings(trace: Trace, activity: Activity, launches: Launches) -> Rows | None:
    """Entries of the activity that open the rounds of the trace's loop, in time order; None if it has no loop.

    The longest period is taken, because a model's layers repeat inside the steps of its loop. A shorter one is taken if nothing
    is left over at either end of the trace: then every tenth round only does something more (it logs), and ten are no step.

    Args:
        trace: the trace.
        activity: its device work.
        launches: which call and operator each device operation belongs to.
    """
    work = _in_order_of_issue(trace, activity, launches)
    best: _Loop | None = None
    for loop in _repeats(work.name):
        if best is not None and (not loop.fills(len(work.name)) or len(loop.at) == len(best.at)):
            continue
        start = activity.start[work.entry[loop.at]]
        if (np.diff(start) > 0).all() and _is_apart(work.call[loop.at]) and _is_loop(trace, activity, work, loop):
            best = loop
    return None if best is None else work.entry[best.at]


def _in_order_of_issue(trace: Trace, activity: Activity, launches: Launches) -> _Sequence:
    length = activity.end - activity.start
    if activity.is_device:
        issuer = np.where(launches.call >= 0, launches.call, launches.op)
        known = bool((issuer >= 0).all())
        order = np.lexsort((activity.start, trace.events.start[issuer])) if known else np.arange(activity.count)
        busy = length[order]
    else:
        rows, order, piece = np.unique(activity.row, return_index=True, return_inverse=True)
        issuer, busy = activity.row, np.bincount(piece, length, len(rows)).astype(np.int64)
    name = trace.events.name[activity.row[order]]
    before = np.concatenate((np.zeros(1, np.int64), np.cumsum(busy)))
    return _Sequence(order, name, issuer[order], launches.call[order], before)


def _repeats(name: npt.NDArray[np.int32]) -> Iterator[_Loop]:
    """Regular repeats by what they begin with, the longest period first, of equally long ones the one that begins first."""
    hashes = _WindowHashes(name)
    _, first, count = np.unique(name, return_index=True, return_counts=True)
    order = np.argsort(name, kind="stable")
    begin = np.concatenate((np.zeros(1, np.int64), np.cumsum(count)))
    for i in np.lexsort((first, count)).tolist():
        if count[i] < _MIN_REPEATS + 1 or len(name) / count[i] < _MIN_PERIOD / 2:
            continue
        at = np.sort(order[begin[i] : begin[i + 1]])
        if (loop := _regular(hashes, at)) is not None:
            yield loop


def _regular(hashes: _WindowHashes, at: Rows) -> _Loop | None:
    """The loop that begins at these positions, if enough of its rounds are equal."""
    rounds = hashes.of(at[:-1], at[1:])
    values, index, counts = np.unique(rounds, return_index=True, return_counts=True)
    most = int(counts.argmax())
    model = int(at[index[most]])
    period = int(at[index[most] + 1]) - model
    last, size = int(at[-1]), hashes.size
    whole = last + period <= size
    ended = whole and hashes.same(last, model, period)
    equal = rounds == values[most]
    share = (int(equal.sum()) + ended) / (len(equal) + whole)
    if share < _REGULAR or int(equal.sum()) < _MIN_REPEATS or period < _MIN_PERIOD:
        return None
    head, tail = int(at[0]), size - last
    cut_first = head < period and hashes.same(0, model + period - head, head)
    cut_last = tail <= period and hashes.same(last, model, tail)
    until = size if cut_last else (last + period if ended else last)
    return _Loop(at, equal, period, model, 0 if cut_first else head, until)


def _is_apart(call: Rows) -> bool:
    """Whether each round was issued by a call of its own: repeats inside one graph launch are layers."""
    known = call[call >= 0]
    return len(distinct(known)) == len(known)


def _is_loop(trace: Trace, activity: Activity, work: _Sequence, loop: _Loop) -> bool:
    """Whether a regular repeat is the loop of the trace, and no part of one step."""
    size = len(work.name)
    in_rounds = np.diff(work.before[loop.at])
    if in_rounds[loop.equal].sum() < _SANE * in_rounds.sum():
        return False
    own_span = _own_spans(trace, work.issuer[loop.at])
    backward = _in_backward(trace, work.issuer)
    in_model = backward[loop.model : loop.model + loop.period]
    if own_span is False or (backward.any() and (in_model.all() or not in_model.any())):
        return False
    certain = own_span is True or bool(backward.any())
    start, end = int(activity.start.min()), int(activity.end.max())
    begins = start if loop.first == 0 else int(activity.start[work.entry[loop.first]])
    ends = end if loop.until == size else int(activity.start[work.entry[loop.until]])
    if ends - begins >= _REGULAR * (end - start):
        return certain or loop.first == 0 or loop.until == size
    done = int(work.before[loop.until] - work.before[loop.first])
    return certain and done >= _REGULAR * int(work.before[-1])


def _own_spans(trace: Trace, issuer: Rows) -> bool | None:
    """Whether each round begins in a span of its own; False if one span holds several; None if spans do not tell.

    Modules tell first, because a user's label can be around the loop as well as in it.
    """
    if (issuer < 0).any():
        return None
    modules = np.array([i for i, name in enumerate(trace.names) if name.startswith(_MODULE)], np.int64)
    around = _outermost_around(trace, trace.frames(modules), issuer)
    if (around >= 0).all() and len(distinct(around)) == len(around):
        return True
    spans = trace.rows(Category.ANNOTATION, Category.CPU_OP)
    spans = spans[~np.isin(trace.events.name[spans], ids_matching(trace, LABEL))]
    labels = spans[trace.events.category[spans] == Category.ANNOTATION]
    operators = spans[trace.events.category[spans] == Category.CPU_OP]
    for instance in (around, *(_outermost_around(trace, rows, issuer) for rows in (labels, operators))):
        inside = instance[instance >= 0]
        if len(distinct(inside)) < len(inside):
            return False
    labelled = _outermost_around(trace, labels, issuer)
    return True if (labelled >= 0).all() else None


def _outermost_around(trace: Trace, spans: Rows, rows: Rows) -> Rows:
    """For each row the outermost of these spans around it on its own thread, or -1."""
    events = trace.events
    found = np.full(len(rows), -1, np.int64)
    for mine, enclosing in on_each(events.track[rows], events.track[spans]):
        own = spans[enclosing]
        if not len(own):
            continue
        reach = np.maximum.accumulate(events.end[own])
        outer = own[np.concatenate((np.ones(1, np.bool_), events.start[own][1:] >= reach[:-1]))]
        index = np.searchsorted(events.start[outer], events.start[rows[mine]], side="right") - 1
        inside = (index >= 0) & (events.end[outer[np.maximum(index, 0)]] > events.start[rows[mine]])
        found[mine[inside]] = outer[index[inside]]
    return found


def _in_backward(trace: Trace, issuer: Rows) -> npt.NDArray[np.bool_]:
    """Which operations were issued by the autograd engine."""
    events = trace.events
    nodes = rows_matching(trace, NODE_CALL, trace.rows(Category.CPU_OP))
    found = np.zeros(len(issuer), np.bool_)
    known = np.flatnonzero(issuer >= 0)
    for own, issued in on_each(events.track[nodes], events.track[issuer[known]]):
        mine, inside = known[issued], union(events.start[nodes[own]], events.end[nodes[own]])
        found[mine] = inside.contains(events.start[issuer[mine]])
    return found


class _WindowHashes:
    """Compares stretches of a sequence in constant time: polynomial hashes modulo 2**64."""

    def __init__(self, name: npt.NDArray[np.int32]) -> None:
        self.size = len(name)
        code = (name.astype(np.uint64) + np.uint64(1)) * np.uint64(_BASE)
        code ^= code >> np.uint64(31)
        code *= np.uint64(0xBF58476D1CE4E5B9)  # the second multiplier of splitmix64
        powers = np.cumprod(np.full(self.size, _BASE, np.uint64))
        self._inverse = np.cumprod(np.full(self.size + 1, pow(_BASE, -1, 1 << 64), np.uint64))
        self._sum = np.concatenate((np.zeros(1, np.uint64), np.cumsum(code * powers)))

    def of(self, start: Rows, end: Rows) -> npt.NDArray[np.uint64]:
        """Hash of each stretch ``[start, end)``; equal stretches have equal hashes wherever they begin."""
        hashes: npt.NDArray[np.uint64] = (self._sum[end] - self._sum[start]) * self._inverse[start]
        return hashes

    def same(self, a: int, b: int, length: int) -> bool:
        """Whether the stretches of this length that begin at `a` and at `b` are equal."""
        begin = np.array([a, b], np.int64)
        first, second = self.of(begin, begin + length)
        return bool(first == second)
