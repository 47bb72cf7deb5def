"""Device work by the operator that launched it, and the edits that remove such work.

Rules name operators ("the casts", "the norms"). The timeline has kernels and host calls. This module links the two.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, Steady, outermost, under
from mfu_doctor.analysis.names.vocabulary import ids_matching, rows_matching
from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleDevice, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import distinct, numbered
from mfu_doctor.arrays.intervals import EMPTY, Intervals, union
from mfu_doctor.trace import Category

RANDOM = re.compile(
    r"^aten::(\w*dropout\w*|bernoulli_?|normal_?|uniform_?|rand\w*|exponential_?|multinomial|poisson|rrelu\w*|_fused_dropout)$"
)
_POSITIVE = re.compile(r"0?\.\d*[1-9]\d*")  # a probability as an argument is printed
_ATTENTION = re.compile(r"^aten::(scaled_dot_product_attention|_scaled_dot_product_\w+)$")


def calls_of(run: Run, pattern: re.Pattern[str]) -> Rows:
    """Host rows of these operators or annotations, outermost only, in time order."""
    return outermost(run, rows_matching(run.trace, pattern, run.trace.rows(Category.CPU_OP, Category.ANNOTATION)))


def work_of(run: Run, pattern: re.Pattern[str]) -> Mask:
    """Entries of the activity table whose operator, or one that encloses it, has such a name; shape (n,)."""
    return owner_of(run, pattern) >= 0


def owner_of(run: Run, pattern: re.Pattern[str]) -> Rows:
    """For each entry the nearest operator row with such a name that is or encloses its operator, else -1; shape (n,)."""
    ops, which = numbered(run.launches.op)
    named = np.isin(run.trace.events.name[np.maximum(ops, 0)], ids_matching(run.trace, pattern)) & (ops >= 0)
    found = np.where(named, ops, under(run, ops, pattern))
    return found[which]


def inherited(run: Run, rows: Rows, value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each row the value of the nearest row with one (not 0) that is or encloses it, else 0; `value`: one for each event."""
    found, up = np.zeros(len(rows)), rows.astype(np.int64)
    while (up >= 0).any():
        found = np.where((up >= 0) & (found == 0), value[up], found)
        up = np.where((up >= 0) & (found == 0), run.ops.parent[np.maximum(up, 0)], -1)
    return found


def work_in(run: Run, where: Intervals) -> Mask:
    """Entries whose operator (else launch call) began inside these host times; shape (n,)."""
    return where.contains(_issued(run))


def work_in_each(run: Run, many: Sequence[Intervals]) -> list[Rows]:
    """The same for each of these host times, as positions in the activity table."""
    issued = _issued(run)
    order = np.argsort(issued, kind="stable")
    begins = issued[order]
    edges = [(np.searchsorted(begins, one.start), np.searchsorted(begins, one.end)) for one in many]
    return [np.concatenate([order[:0], *map(order.__getitem__, map(slice, *pair))]) for pair in edges]


def _issued(run: Run) -> Rows:
    """When the operator of each entry began, else its launch call, else -1; shape (n,)."""
    op, call = run.launches.op, run.launches.call
    start = run.trace.events.start
    return np.where(op >= 0, start[np.maximum(op, 0)], np.where(call >= 0, start[np.maximum(call, 0)], -1))


def of_events(run: Run, entry: Rows, value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each entry the sum of `value` (shape (n,)) over all entries of its event: on a CPU an operator can have several."""
    _, which = numbered(run.activity.row)
    return np.bincount(which, value).astype(np.float64, copy=False)[which[entry]]


def device_ns(run: Run, steady: Steady, mask: Mask) -> float:
    """Device time per steady step of these entries, in nanoseconds."""
    return float(((run.activity.end - run.activity.start) * steady.entry_part(run))[mask].sum())


def scaled(run: Run, mask: Mask, factor: float) -> tuple[Edit, ...]:
    """These entries take `factor` of their device time."""
    rows = distinct(run.activity.row[mask])
    return (ScaleDevice(rows, np.full(len(rows), factor)),) if len(rows) else ()


def lessened(run: Run, less: npt.NDArray[np.float64]) -> tuple[Edit, ...]:
    """Entries take so much less of their device time: 0.2 is a fifth less; shape (n,), all entries of a row alike."""
    rows, at = np.unique(run.activity.row, return_index=True)
    some = less[at] > 0
    return (ScaleDevice(rows[some], 1.0 - less[at][some]),) if some.any() else ()


def removed(run: Run, mask: Mask, calls: Rows | None = None) -> tuple[Edit, ...]:
    """These entries are removed, and with them the host time of the operators that issued them (of `calls` if given)."""
    return (
        *scaled(run, mask, 0.0),
        *without_host(run, spans_of(run, mask) if calls is None else spans_of_rows(run, calls)),
    )


def without_host(run: Run, where: Intervals) -> tuple[Edit, ...]:
    """Host time in `where` is removed; on a CPU only the time outside operators (they are the device work there)."""
    host = where - run.activity.busy() if run.is_cpu else where
    return (ScaleHost(host, 0.0),) if host.count else ()


def removed_in(run: Run, where: Intervals, mask: Mask) -> Change:
    """Without these entries and this host time: at the low end the device gains, else the CPU gains the launching too."""
    device = scaled(run, mask, 0.0)
    everything = (*device, *without_host(run, where))
    return Change(device, everything, everything)


def spans_of(run: Run, mask: Mask) -> Intervals:
    """Host time of the innermost operators that issued these entries."""
    ops = distinct(run.launches.op[mask])
    return spans_of_rows(run, ops[ops >= 0])


def spans_of_rows(run: Run, rows: Rows) -> Intervals:
    """Host time of these rows."""
    if not len(rows):
        return EMPTY
    return union(run.trace.events.start[rows], run.trace.events.end[rows])


def longest_kernels(run: Run, mask: Mask, count: int = 3) -> list[tuple[str, float]]:
    """Names and total nanoseconds of the kernels (operators) that take most of these entries' time."""
    names = run.trace.events.name[run.activity.row[mask]]
    time = np.bincount(names, (run.activity.end - run.activity.start)[mask], minlength=len(run.trace.names))
    return [(run.trace.names[int(i)], float(time[i])) for i in np.argsort(-time)[:count] if time[i] > 0]


def first_place(run: Run, rows: Rows) -> str | None:
    """The user's line behind the longest of these host rows, or None."""
    if not len(rows):
        return None
    length = run.trace.events.end[rows] - run.trace.events.start[rows]
    return run.places(rows[[int(np.argmax(length))]])[0]


def shapes_of(run: Run, row: int) -> tuple[tuple[int, ...], ...]:
    """Shapes of the tensors that an operator got, those in lists too, without those that have no axis."""
    args = run.trace.args_of(row)
    shapes: list[tuple[int, ...]] = []
    for shape in (args.dims if args is not None else None) or ():
        inner = [one for one in shape if isinstance(one, tuple)]
        shapes += inner or [tuple(one for one in shape if isinstance(one, int))]
    return tuple(shape for shape in shapes if shape)


def between_operators(run: Run, rows: Rows) -> Intervals:
    """Host time between outermost operators of the training thread that follow each other and are, or hold, such rows."""
    operators = outermost(run, run.trace.rows(Category.CPU_OP))
    operators = operators[run.trace.events.track[operators] == run.host.main_track]
    mine = np.isin(operators, _outermost_around(run, rows))
    first = np.flatnonzero(mine[1:] & mine[:-1])
    return union(run.trace.events.end[operators[first]], run.trace.events.start[operators[first + 1]])


def _outermost_around(run: Run, rows: Rows) -> Rows:
    parent = run.ops.parent
    is_operator = np.append(run.trace.events.category == Category.CPU_OP, [False])
    while (up := np.where(is_operator[parent[rows]], parent[rows], rows)).tolist() != rows.tolist():
        rows = up
    return distinct(rows)


def operators_in(run: Run, spans: tuple[tuple[int, int], ...], operators: Rows) -> list[Rows]:
    """For each of these times of the step recorded in depth its operators in the analysed trace, of all steps."""
    twins = run.recorded_rows(operators)
    start = np.where(twins >= 0, run.recorded.events.start[np.maximum(twins, 0)], -1)
    order = np.argsort(start, kind="stable")
    edges = np.array([span for span in spans if span[1] > span[0]], np.int64).reshape(-1, 2)
    at = np.searchsorted(start[order], edges - run.recorded.origin_ns)
    return [np.sort(operators[order[lo:hi]]) for lo, hi in at.tolist()]


def draws_random(run: Run, rows: Rows) -> bool:
    """Whether random numbers are drawn: by an operator of its own, or as dropout inside of attention."""
    if len(rows_matching(run.trace, RANDOM, rows)):
        return True
    given = [run.trace.args_of(row) for row in rows_matching(run.trace, _ATTENTION, rows).tolist()]
    texts = [text for args in given if args is not None and args.concrete for text in args.concrete]
    return any(_POSITIVE.fullmatch(text) for text in texts)
