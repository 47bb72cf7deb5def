"""Loops in Python as a trace shows them: the same operators, repeated on the main thread within one step."""

from __future__ import annotations

import re

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.evidence.backward import node_calls
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, outermost, under
from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import FETCH, LABEL, ids_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.once import once
from mfu_doctor.arrays.distinct import distinct, without
from mfu_doctor.arrays.intervals import union
from mfu_doctor.trace import Category

_JOIN = re.compile(r"^aten::(stack|cat|hstack|vstack|concat)$")
_SPLIT = re.compile(r"^aten::(unbind|split\w*|tensor_split|chunk|unsafe_(split\w*|chunk))$")
# A loop over elements, samples, windows or time takes its part of a tensor in each round.
_INDEXING = re.compile(r"^aten::(select|slice|index|narrow|item|index_put_|__getitem__|unbind|index_select|gather)$")
# Takes its part by a mask: every operator of the round goes over the whole tensor.
_MASKING = re.compile(r"^aten::(eq|ne|lt|le|gt|ge|isin|isclose|where|masked_fill_?|masked_select)$")
_SEED = re.compile(r"^aten::ones_like$")  # the gradient of the loss, with which each backward pass begins
LONGEST_BODY = 64  # outermost operators in one round: a cell or a loss written out has 10 to 40
LEAST_ROUNDS = 10  # as PyTorch's own pattern matcher takes
# A loop that the step runs again and again (for each environment, at each time) needs so many rounds in a row: all its runs
# together have LEAST_ROUNDS. A round of fewer operators is found in such short runs by chance.
LEAST_IN_A_ROW = 4
_SHORTEST_BODY = 4


class Loop(Struct, frozen=True):
    """One loop.

    Attributes:
        names: operators of a round, in order, each once.
        rounds: how many rounds there are.
        rows: its outermost operators, round after round, shape (rounds * operators of a round,).
        start, end: its time on the host in nanoseconds, with cutting the tensor into parts and joining the results.
        before: the outermost operator before the loop, "" if there is none.
        after: the one after it.
        backward: whether each round has a backward pass of its own.
        again: number of the loop that the step runs again and again; -1: this is all of it.
        join: row of what joins the results right after the loop (stack, cat), -1 if nothing does.
    """

    names: tuple[str, ...]
    rounds: int
    rows: Rows
    start: int
    end: int
    before: str = ""
    after: str = ""
    backward: bool = False
    again: int = -1
    join: int = -1

    @property
    def row(self) -> int:
        """Row of its first operator."""
        return int(self.rows[0])

    @property
    def takes_parts(self) -> bool:
        """Whether it goes over the parts of a tensor: by index or mask, piece by piece, or joining what its rounds made."""
        joins = len(self.names) > 1 and bool(_JOIN.match(self.after))
        return self.takes_each or joins or self.masks

    @property
    def takes_each(self) -> bool:
        """Whether each round takes a part of a tensor by an index, or a piece that the tensor was cut into before."""
        return any(_INDEXING.match(name) for name in self.names) or bool(_SPLIT.match(self.before))

    @property
    def masks(self) -> bool:
        """Whether its rounds take their parts by masks alone, so that each goes over the whole."""
        return any(_MASKING.match(name) for name in self.names) and not any(_INDEXING.match(n) for n in self.names)


@once
def find_loops(run: Run) -> list[Loop]:
    """Loops among the outermost operators of the main thread, optimizer and data fetches left out.

    No loop reaches over the begin of a step, or over a backward pass: steps and micro-batches repeat themselves as well. But one
    that takes a part of the batch in each round and calls backward for it is a loop, and contains the others.
    """
    whole = [loop for loop in _loops_in(run, backward=True) if loop.backward and loop.takes_parts]
    inside = union(np.array([loop.start for loop in whole]), np.array([loop.end for loop in whole]))
    single = [loop for loop in _loops_in(run, backward=False) if not inside.contains(np.array([loop.start]))[0]]
    return sorted((*whole, *single), key=lambda loop: loop.start)


def _loops_in(run: Run, *, backward: bool) -> list[Loop]:
    """Loops over single operators, or those over backward passes as well."""
    rows = _top_level(run)
    if backward:
        rows = rows[~run.optimizer_steps.closures.contains(run.trace.events.start[rows])]
    breaks = distinct(np.searchsorted(run.trace.events.start[rows], _boundaries(run, backward=backward)))
    names = np.insert(run.trace.events.name[rows].astype(np.int64), breaks, -1 - np.arange(len(breaks)))
    rows = np.insert(rows, breaks, -1)
    found: list[Loop] = []
    taken = np.zeros(len(rows), np.bool_)
    for body in range(1, LONGEST_BODY + 1):
        for first, last in _repeats(names, body):
            if taken[first:last].any():
                continue
            taken[first:last] = True
            found.append(_loop(run, rows, (first, last), body))
    return found if backward else [*found, *_short_loops(run, rows, names, taken)]


def _short_loops(run: Run, rows: Rows, names: Rows, taken: Mask) -> list[Loop]:
    """Loops of few rounds that run again and again within a step."""
    start = run.trace.events.start
    runs: dict[tuple[int, tuple[int, ...]], list[tuple[int, int]]] = {}  # by the step and the operators of a round
    for body in range(_SHORTEST_BODY, LONGEST_BODY + 1):
        for first, last in _repeats(names, body, LEAST_IN_A_ROW):
            if not taken[first:last].any():
                step = int(np.searchsorted(run.steps.host_start, start[rows[first]], side="right"))
                runs.setdefault((step, tuple(sorted(names[first : first + body].tolist()))), []).append((first, last))
    often = [
        (last - first, len(names_), number, (first, last))
        for number, ((_, names_), its) in enumerate(runs.items())
        if sum(last - first for first, last in its) >= LEAST_ROUNDS * len(names_)
        for first, last in its
    ]
    found = []
    for _, body, number, (first, last) in sorted(
        often, key=lambda one: (-one[0], one[1])
    ):  # of the longest the simplest
        if not taken[first:last].any():
            taken[first:last] = True
            found.append(replace(_loop(run, rows, (first, last), body), again=number))
    return found


def _top_level(run: Run) -> Rows:
    rows = run.trace.rows(Category.CPU_OP)
    rows = rows[run.trace.events.track[rows] == run.host.main_track]
    rows = rows[~np.isin(run.trace.events.name[rows], ids_matching(run.trace, LABEL))]
    rows = outermost(run, rows)
    rows = rows[~run.optimizer_steps.own.contains(run.trace.events.start[rows]) & (under(run, rows, FETCH) < 0)]
    return rows[~np.isin(run.trace.events.name[rows], ids_matching(run.trace, NODE_CALL))]


def _boundaries(run: Run, *, backward: bool) -> Rows:
    """Times that no loop contains: where a step begins, and a node of backward, or else a fetch or an optimizer step."""
    if backward:
        apart = np.concatenate((run.host.fetch.start, run.optimizer_steps.own.start))
    else:
        apart = run.trace.events.start[node_calls(run, run.trace.rows(Category.CPU_OP))]
    return np.concatenate((run.steps.host_start, run.steps.host_end, apart))


def _repeats(names: Rows, body: int, least: int = LEAST_ROUNDS) -> list[tuple[int, int]]:
    """Half-open ranges in which the sequence repeats itself every `body` names, at least so many times."""
    if len(names) <= body * least:
        return []
    same = np.concatenate((np.zeros(1, np.bool_), names[body:] == names[:-body], np.zeros(1, np.bool_)))
    change = np.flatnonzero(np.diff(same.astype(np.int8)))
    starts, ends = change[::2], change[1::2]
    long = ends - starts >= body * (least - 1)
    return [(int(a), int(b) + body) for a, b in zip(starts[long], ends[long], strict=True)]


def _whole_rounds(run: Run, rows: Rows, found: tuple[int, int], body: int) -> tuple[int, int]:
    """The range in whole rounds, where what repeats is longer: an operator before the loop may look like the end of a round.

    A join right after the loop says where the last round ends, and a round begins with taking its part; else the first
    operators make the first round.
    """
    first, last = found
    extra = (last - first) % body
    after = run.trace.name_of(int(rows[last])) if last < len(rows) and rows[last] >= 0 else ""
    offset = 0
    if _JOIN.match(after):
        offset = extra
    elif not (first and rows[first - 1] >= 0 and _SPLIT.match(run.trace.name_of(int(rows[first - 1])))):
        taking = [i for i in range(extra + 1) if _INDEXING.match(run.trace.name_of(int(rows[first + i])))]
        offset = taking[0] if taking else 0
    return first + offset, last - (extra - offset)


def _loop(run: Run, among: Rows, repeats: tuple[int, int], body: int) -> Loop:
    """One loop, with what cuts the tensor (split, unbind), what joins its rounds' results (stack, cat), and freeing them."""
    events = run.trace.events
    begin, last = _whole_rounds(run, among, repeats, body)
    rows = among[begin:last]
    around = (int(among[begin - 1]) if begin else -1, int(among[last]) if last < len(among) else -1)
    before, after = (run.trace.name_of(row) if row >= 0 else "" for row in around)
    names = tuple(dict.fromkeys(run.trace.name_of(row) for row in rows[:body].tolist()))
    start, end = int(events.start[rows[0]]), int(events.end[rows].max())
    if _SPLIT.match(before):
        start = int(events.start[around[0]])
    if _JOIN.match(after):
        between = end - start - int((events.end[rows] - events.start[rows]).sum())
        joined = int(events.end[around[1]])
        end = joined + min(_idle_after(run, joined), max(between, 0))
    backward = int(np.isin(events.name[rows], ids_matching(run.trace, _SEED)).sum()) >= len(rows) // body
    end = _pass_after(run, end) if backward else end
    join = around[1] if _JOIN.match(after) else -1
    return Loop(names, len(rows) // body, rows, start, end, before, after, backward, join=join)


def _pass_after(run: Run, at: int) -> int:
    """When the backward pass ends that is all that happens at first from `at` on."""
    events = run.trace.events
    rows = run.trace.rows(Category.CPU_OP)
    nodes = node_calls(run, rows)
    main = without(outermost(run, rows[events.track[rows] == run.host.main_track]), nodes)
    later = events.start[main][events.start[main] >= at]
    until = int(later.min()) if len(later) else int(events.end.max())
    mine = nodes[(events.start[nodes] >= at) & (events.start[nodes] < until)]
    return max(at, int(events.end[mine].max(initial=at)))


def _idle_after(run: Run, at: int) -> int:
    """Nanoseconds from `at` until the main thread starts the next event; 0 after the last."""
    events = run.trace.events
    first = int(np.searchsorted(events.start, at))
    mine = events.track[first:] == run.host.main_track
    return int(events.start[first + int(mine.argmax())]) - at if mine.any() else 0
