"""Loops in Python as a trace shows them: the same few operators, repeated on the main thread."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.evidence.backward import in_backward, node_calls
from mfu_doctor.analysis.evidence.steady_steps import Rows, outermost, under
from mfu_doctor.analysis.names.vocabulary import FETCH, LABEL, OPTIMIZER_MARK, ids_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.intervals import Intervals, union
from mfu_doctor.trace import Category

_JOIN = re.compile(r"^aten::(stack|cat|hstack|vstack)$")
# Loops over elements index; a loop over layers does not.
_INDEXING = re.compile(r"^aten::(select|slice|index|narrow|item|index_put_|__getitem__|unbind|index_select|gather)$")
# A loop with a layer in it is a recurrence or a stack of layers.
_LAYER = re.compile(
    r"^aten::(linear|addmm|mm|bmm|matmul|conv\w*|lstm\w*|gru\w*|embedding|scaled_dot_product_attention)$"
)
LONGEST_BODY = 4  # operators in one round
LEAST_ROUNDS = 20  # PyTorch's own pattern matcher takes 10; layers of a deep network repeat about as often


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop: names of a round's operators, number of rounds, host time in nanoseconds, row of its first operator."""

    names: tuple[str, ...]
    rounds: int
    start: int
    end: int
    row: int


def find_loops(run: Run) -> list[Loop]:
    """Loops among the outermost operators of the main thread, optimizer and data fetches left out."""
    rows = _top_level(run)
    names = run.trace.events.name[rows].astype(np.int64)
    found: list[Loop] = []
    taken = np.zeros(len(rows), np.bool_)
    for body in range(1, LONGEST_BODY + 1):
        for first, last in _repeats(names, body):
            if taken[first:last].any():
                continue
            taken[first:last] = True
            found.append(_loop(run, rows[first:last], rows[last : last + 1], body))
    return sorted(found, key=lambda loop: loop.start)


def element_loops(run: Run) -> list[Loop]:
    """Loops over the elements of a tensor: they index, and no layer is in them."""

    def indexes(loop: Loop) -> bool:
        return any(_INDEXING.match(name) for name in loop.names) and not any(_LAYER.match(name) for name in loop.names)

    return [loop for loop in find_loops(run) if indexes(loop)]


def _top_level(run: Run) -> Rows:
    rows = run.trace.rows(Category.CPU_OP)
    rows = rows[run.trace.events.track[rows] == run.host.main_track]
    rows = rows[~np.isin(run.trace.events.name[rows], ids_matching(run.trace, LABEL))]
    rows = outermost(run, rows)
    return rows[(under(run, rows, OPTIMIZER_MARK) < 0) & (under(run, rows, FETCH) < 0)]


def _repeats(names: Rows, body: int) -> list[tuple[int, int]]:
    """Half-open ranges in which the sequence repeats itself every `body` names, at least LEAST_ROUNDS times."""
    if len(names) <= body * LEAST_ROUNDS:
        return []
    same = np.concatenate((np.zeros(1, np.bool_), names[body:] == names[:-body], np.zeros(1, np.bool_)))
    change = np.flatnonzero(np.diff(same.astype(np.int8)))
    starts, ends = change[::2], change[1::2]
    long = ends - starts >= body * (LEAST_ROUNDS - 1)
    return [(int(a), int(b) + body) for a, b in zip(starts[long], ends[long], strict=True)]


def _loop(run: Run, rows: Rows, after: Rows, body: int) -> Loop:
    """One loop; the operator that joins the results of its rounds (stack, cat) is part of it, and so is freeing them."""
    events = run.trace.events
    names = tuple(dict.fromkeys(run.trace.name_of(row) for row in rows[:body].tolist()))
    start, end = int(events.start[rows[0]]), int(events.end[rows].max())
    if len(after) and _JOIN.match(run.trace.name_of(int(after[0]))):
        between = end - start - int((events.end[rows] - events.start[rows]).sum())
        joined = int(events.end[after[0]])
        end = joined + min(_idle_after(run, joined), max(between, 0))
    return Loop(names, len(rows) // body, start, end, int(rows[0]))


def _idle_after(run: Run, at: int) -> int:
    """Nanoseconds from `at` until the main thread starts the next event; 0 after the last."""
    events = run.trace.events
    starts = events.start[events.track == run.host.main_track]
    later = starts[starts >= at]
    return int(later.min()) - at if len(later) else 0


def time_of_loops(run: Run, loops: list[Loop]) -> Intervals:
    """Host time of these loops and of their nodes in backward.

    Autograd gives an operator and its node in backward the same sequence number; an operator without a node carries the number
    of the next one, so numbers that are seen again after the loop are not its own.
    """
    start, end = np.array([loop.start for loop in loops]), np.array([loop.end for loop in loops])
    forward = union(start, end)
    ops = run.trace.rows(Category.CPU_OP)
    nodes = node_calls(run, ops)
    others = np.setdiff1d(ops[run.trace.events.sequence[ops] >= 0], nodes)
    others = others[~in_backward(run, others)]
    looping = forward.contains(run.trace.events.start[others])
    sequence = run.trace.events.sequence
    own = np.setdiff1d(sequence[others[looping]], sequence[others[~looping]])
    edges = [
        _stretches(run, nodes[run.trace.events.track[nodes] == t], own)
        for t in np.unique(run.trace.events.track[nodes])
    ]
    return union(np.concatenate((start, *(a for a, _ in edges))), np.concatenate((end, *(b for _, b in edges))))


def _stretches(run: Run, nodes: Rows, own: npt.NDArray[np.int32]) -> tuple[Rows, Rows]:
    """Starts and ends of the stretches of one thread's nodes (in time order) that belong to the loops."""
    mine = np.isin(run.trace.events.sequence[nodes], own)
    change = np.flatnonzero(np.diff(np.concatenate(([False], mine, [False])).astype(np.int8)))
    first, last = change[::2], change[1::2] - 1
    return run.trace.events.start[nodes[first]], run.trace.events.end[nodes[last]]
