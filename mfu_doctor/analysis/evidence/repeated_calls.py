"""Modules that a step calls several times with the same tensors, and gradients that it takes again: once is enough.

The recorder knows the calls of the step that was recorded in depth. A call that draws random numbers (dropout, sampling) gives
another result each time. The call that stays is one that backward goes through, if there is one. What is computed from the output
alone comes again with it: a gradient of its sum (`autograd.grad(..., create_graph=True)`) is the same each time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import RANDOM, draws_random, operators_in, shapes_of, work_in
from mfu_doctor.analysis.evidence.backward import maker_of, node_calls
from mfu_doctor.analysis.evidence.needless_backward import NeedlessBackward, needless_backward, whole_nodes
from mfu_doctor.analysis.evidence.steady_steps import Rows, outermost
from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import LABEL, ids_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.arrays.distinct import distinct, without
from mfu_doctor.arrays.intervals import union
from mfu_doctor.facts.wasted_work import RepeatedCall, RepeatedGradient
from mfu_doctor.trace import Category


class Repeated(Struct, frozen=True):
    """Calls that need not be made.

    Attributes:
        modules: classes of the modules that are called; empty: only gradients are taken again.
        rows: outermost operators of these calls, or of these gradients, all steps.
        derived: whether a gradient of their output is computed again with them.
        compared: whether what all of them gave was read, and is equal; of gradients it is.
        work: their forward pass, and their backward pass where they have one beside that of the call that stays.
    """

    modules: tuple[str, ...]
    rows: Rows
    derived: bool
    compared: bool
    work: NeedlessBackward


class _Copy(Struct, frozen=True):
    """One of several equal calls in one step, with what follows it and is equal too.

    Attributes:
        rows: operators of the call.
        start, end: host time of the call and of what follows it and is computed by an earlier copy, too.
        first, last: half-open range of the numbers that autograd gives in it.
        made: the highest number up to the end of the call, and of each operator that follows, shape (n,).
        leaders: the first copy that is alike until then, shape (n,).
    """

    rows: Rows
    start: int
    end: int
    first: int
    last: int
    made: Rows
    leaders: Rows


class _Engine(Struct, frozen=True):
    """Calls of the nodes of backward, by autograd's number.

    Attributes:
        nodes: rows of the calls, shape (n,).
        numbers: of each, in order, shape (n,).
        passes: operators of the training thread that begin before it: equal within one backward pass, shape (n,).
    """

    nodes: Rows
    numbers: Rows
    passes: Rows


def repeated_calls_of(run: Run) -> Repeated | None:
    """The calls that could be left out; None if there are none, or if the calls of modules were not watched."""
    told: tuple[RepeatedCall | RepeatedGradient, ...] = ()
    if run.facts is not None:
        told = (*(run.facts.repeated_calls or ()), *(run.facts.repeated_gradients or ()))
    if not told:
        return None
    operators = run.trace.rows(Category.CPU_OP)
    nodes = node_calls(run, operators)
    makers, track = maker_of(run, nodes), _main_track(run, operators, nodes)
    engine = _engine(run, nodes, track)
    counted: list[RepeatedCall] = []
    calls: list[_Copy] = []
    passes: list[_Copy] = []
    again: list[Rows] = []
    for call in told:
        made = operators_in(run, call.spans, operators)
        if min(map(len, made), default=0) == 0 or any(draws_random(run, one) for one in made):
            continue
        if isinstance(call, RepeatedCall):
            counted.append(call)
            live = [bool(np.isin(makers, one).any()) for one in made]
            made.insert(0, made.pop(live.index(True) if any(live) else 0))  # the one that stays
        for copies in _by_step(run, made):
            is_pass = isinstance(call, RepeatedGradient)
            whole = _passes_alike(run, copies) if is_pass else _with_what_follows(run, copies, track)
            (passes if is_pass else calls).extend(whole[1:])
            again.append(_nodes_again(run, whole, engine))
    needless = (*calls, *passes)
    if not needless:
        return None
    which = outermost(run, np.sort(np.concatenate([copy.rows for copy in calls or passes])))
    backward = needless_backward(run, whole_nodes(distinct(np.concatenate(again))))
    spans = union(np.array([copy.start for copy in needless]), np.array([copy.end for copy in needless]))
    where = spans | backward.whole
    share = work_in(run, where).astype(np.float64)
    derived = bool(spans.contains(run.trace.events.start[nodes]).any())
    return Repeated(
        modules=tuple(dict.fromkeys(call.module for call in counted)),
        rows=which,
        derived=derived,
        compared=all(call.compared for call in counted),
        work=NeedlessBackward(where, share, share, backward.handed),
    )


def _main_track(run: Run, operators: Rows, nodes: Rows) -> Rows:
    """Outermost operators of the training thread and all calls of nodes, in time order."""
    events = run.trace.events
    main = operators[events.track[operators] == run.host.main_track]
    main = main[~np.isin(events.name[main], ids_matching(run.trace, LABEL))]
    rows = distinct(np.concatenate((outermost(run, main), nodes)))
    return rows[np.argsort(events.start[rows], kind="stable")]


def _by_step(run: Run, made: list[Rows]) -> Iterator[list[Rows]]:
    """The operators of each call, step by step; steps without all calls are left out."""
    step = [
        dict(groups(np.searchsorted(run.steps.host_start, run.trace.events.start[one], side="right"))) for one in made
    ]
    for number in step[0]:
        if all(number in one for one in step):
            yield [one[of[number]] for one, of in zip(made, step, strict=True)]


def _with_what_follows(run: Run, copies: list[Rows], track: Rows) -> list[_Copy]:
    """Each call with the operators after it that compute from its output what another call computes, too.

    What takes one tensor is taken to take what was just made. A backward pass that begins there is a part of it.
    """
    events = run.trace.events
    begins = events.start[track]
    after = np.searchsorted(begins, [events.end[rows].max() for rows in copies])
    calls = np.sort(np.searchsorted(begins, [events.start[rows].min() for rows in copies]))
    until = np.append(calls, len(track))[
        np.searchsorted(calls, after)
    ]  # what follows one call ends where the next begins
    rest = [track[at:end] for at, end in zip(after, until, strict=True)]
    return [
        _copy(run, rows, its, leaders, i)
        for i, (rows, its, leaders) in enumerate(zip(copies, rest, _leaders(run, rest), strict=True))
    ]


def _copy(run: Run, call: Rows, rest: Rows, leaders: list[int], own: int) -> _Copy:
    """A call with what follows it; `leaders` are the first copies that compute the same, operator by operator."""
    events = run.trace.events
    shared = rest[: len(leaders)]
    again = np.concatenate((call, shared[: sum(leader != own for leader in leaders)]))
    inside = np.concatenate((call, shared))
    numbers = events.sequence[inside].astype(np.int64)
    following = rest[len(leaders) :][:1]
    last = max(int(events.sequence[following].max(initial=-1)), int(numbers.max(initial=-1)) + 1)
    first = int(numbers[numbers >= 0].min(initial=last))
    made = np.maximum.accumulate(np.append(numbers[: len(call)].max(initial=first), numbers[len(call) :]))
    return _Copy(
        call, int(events.start[call].min()), int(events.end[again].max()), first, last, made, np.array([0, *leaders])
    )


def _passes_alike(run: Run, passes: list[Rows]) -> list[_Copy]:
    """Passes of backward that gave the same, and go through the same nodes as the first one; rows are all operators of each."""
    events = run.trace.events
    names = [events.name[node_calls(run, rows)].tolist() for rows in passes]
    copies = []
    for i, rows in enumerate(passes):
        numbers = events.sequence[without(rows, node_calls(run, rows))].astype(np.int64)
        numbers = numbers[numbers >= 0]
        if names[i] == names[0] and len(numbers):
            span = int(events.start[rows].min()), int(events.end[rows].max())
            first, last = int(numbers.min()), int(numbers.max()) + 1
            copies.append(_Copy(outermost(run, rows), *span, first, last, np.array([last]), np.zeros(1, np.int64)))
    return copies


def _leaders(run: Run, rest: list[Rows]) -> list[list[int]]:
    """For each sequence of operators, one after another, the first sequence that is alike until then, as long as any other is."""
    leaders: list[list[int]] = [[] for _ in rest]
    alike, depth = [list(range(len(rest)))], 0
    while alike:
        kinds: dict[Hashable, list[int]] = {}
        for i in (i for group in alike for i in group if depth < len(rest[i])):
            until = leaders[i][-1] if depth else 0
            kinds.setdefault((until, _kind(run, int(rest[i][depth]))), []).append(i)
        alike, depth = [members for members in kinds.values() if len(members) > 1], depth + 1
        for members in alike:
            for i in members:
                leaders[i].append(members[0])
    return leaders


def _kind(run: Run, row: int) -> Hashable:
    """Equal for operators that do the same with what was just made, and for calls of the same node of backward."""
    name = run.trace.name_of(row)
    if NODE_CALL.match(name):
        return name
    args = run.trace.args_of(row)
    if RANDOM.match(name) or args is None or args.dims is None or len(shapes_of(run, row)) > 1:
        return row
    return name, args.dims, args.concrete


def _engine(run: Run, nodes: Rows, track: Rows) -> _Engine:
    events = run.trace.events
    nodes = nodes[np.argsort(events.sequence[nodes], kind="stable")]
    operators = np.sort(events.start[without(track, nodes)])
    return _Engine(nodes, events.sequence[nodes].astype(np.int64), np.searchsorted(operators, events.start[nodes]))


def _nodes_again(run: Run, copies: list[_Copy], engine: _Engine) -> Rows:
    """Calls of nodes that compute what another copy's node computes in the same backward pass: all but the first."""
    found, place = [], []
    for copy in copies:
        lo, hi = np.searchsorted(engine.numbers, (copy.first, copy.last))
        mine = lo + np.flatnonzero(run.trace.events.start[engine.nodes[lo:hi]] >= copy.start)
        numbers = engine.numbers[mine]
        maker = np.minimum(np.searchsorted(copy.made, numbers), len(copy.leaders) - 1)
        found.append(mine)
        place.append(np.stack((engine.passes[mine], numbers - copy.first, copy.leaders[maker])))
    which = np.concatenate(found)
    _, kept = np.unique(np.concatenate(place, axis=1), axis=1, return_index=True)
    again: Rows = engine.nodes[np.delete(which, kept)]
    return again
