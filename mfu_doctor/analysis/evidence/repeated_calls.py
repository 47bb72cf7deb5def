"""Modules that a step calls several times with the same tensors: one call is enough, and what the others do is needless.

The recorder knows the calls of the step that was recorded in depth. A call that draws random numbers (dropout, sampling) gives
another result each time. The call that stays is one that backward goes through, if there is one. What is computed from the output
alone comes again with it: a gradient of its sum (`autograd.grad(..., create_graph=True)`) is the same each time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import shapes_of, work_in
from mfu_doctor.analysis.evidence.backward import maker_of, node_calls
from mfu_doctor.analysis.evidence.needless_backward import NeedlessBackward, needless_backward, whole_nodes
from mfu_doctor.analysis.evidence.steady_steps import Rows, outermost
from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import LABEL, ids_matching, rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.groups import groups
from mfu_doctor.arrays.distinct import distinct, without
from mfu_doctor.arrays.intervals import union
from mfu_doctor.facts.wasted_work import RepeatedCall
from mfu_doctor.trace import Category

_RANDOM = re.compile(
    r"^aten::(\w*dropout\w*|bernoulli_?|normal_?|uniform_?|rand\w*|exponential_?|multinomial|poisson|rrelu\w*|_fused_dropout)$"
)
_POSITIVE = re.compile(r"0?\.\d*[1-9]\d*")  # a probability as an argument is printed
_ATTENTION = re.compile(r"^aten::(scaled_dot_product_attention|_scaled_dot_product_\w+)$")


class Repeated(Struct, frozen=True):
    """Calls that need not be made.

    Attributes:
        modules: classes of the modules that are called.
        rows: outermost operators of these calls, all steps.
        derived: whether a gradient of their output is computed again with them.
        compared: whether what all of them gave was read, and is equal.
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
        start, end: host time of the call and of what follows it.
        first, last: half-open range of the numbers that autograd gives in it.
    """

    rows: Rows
    start: int
    end: int
    first: int
    last: int


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
    told = run.facts.repeated_calls if run.facts is not None else None
    if not told:
        return None
    operators = run.trace.rows(Category.CPU_OP)
    nodes = node_calls(run, operators)
    makers, track = maker_of(run, nodes), _main_track(run, operators, nodes)
    engine = _engine(run, nodes, track)
    counted: list[RepeatedCall] = []
    needless: list[_Copy] = []
    again: list[Rows] = []
    for call in told:
        made = _calls(run, call, operators)
        if min(map(len, made), default=0) == 0 or any(_is_random(run, one) for one in made):
            continue
        counted.append(call)
        live = [bool(np.isin(makers, one).any()) for one in made]
        made.insert(0, made.pop(live.index(True) if any(live) else 0))  # the one that stays
        for copies in _by_step(run, made):
            whole = _with_what_follows(run, copies, track)
            needless += whole[1:]
            again.append(_nodes_again(run, whole, engine))
    if not needless:
        return None
    forward = outermost(run, np.sort(np.concatenate([copy.rows for copy in needless])))
    backward = needless_backward(run, whole_nodes(distinct(np.concatenate(again))))
    spans = union(np.array([copy.start for copy in needless]), np.array([copy.end for copy in needless]))
    where = spans | backward.whole
    share = work_in(run, where).astype(np.float64)
    derived = bool(spans.contains(run.trace.events.start[nodes]).any())
    return Repeated(
        modules=tuple(dict.fromkeys(call.module for call in counted)),
        rows=forward,
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
    """Each call with the operators after it that compute the same from its output: up to where it differs from the first one.

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
    same = [_alike(run, rest[0], one) for one in rest[1:]]
    whole = []
    for rows, at, its, count in zip(copies, after, rest, (max(same), *same), strict=True):
        inside = np.concatenate((rows, its[:count]))
        numbers = events.sequence[inside].astype(np.int64)
        numbers = numbers[numbers >= 0]
        following = track[at + count :][:1]
        end = int(events.end[inside].max())
        last = max(int(events.sequence[following].max(initial=-1)), int(numbers.max(initial=-1)) + 1)
        first = int(numbers.min(initial=last))
        whole.append(_Copy(rows, int(events.start[rows].min()), end, first, last))
    return whole


def _alike(run: Run, one: Rows, other: Rows) -> int:
    """How many operators of two sequences are alike, from the first on."""
    most = min(len(one), len(other))
    pairs = zip(one[:most].tolist(), other[:most].tolist(), strict=True)
    return next((count for count, (a, b) in enumerate(pairs) if not _is_alike(run, a, b)), most)


def _is_alike(run: Run, one: int, other: int) -> bool:
    """Whether two operators do the same with what was just made, or two calls of nodes are of such."""
    names = run.trace.events.name
    if names[one] != names[other] or _RANDOM.match(run.trace.name_of(one)):
        return False
    if NODE_CALL.match(run.trace.name_of(one)):
        return True
    mine, its = run.trace.args_of(one), run.trace.args_of(other)
    if mine is None or its is None or mine.dims is None:
        return False
    return (mine.dims, mine.concrete) == (its.dims, its.concrete) and len(shapes_of(run, one)) <= 1


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
        found.append(mine)
        place.append(np.stack((engine.passes[mine], engine.numbers[mine] - copy.first)))
    which = np.concatenate(found)
    _, kept = np.unique(np.concatenate(place, axis=1), axis=1, return_index=True)
    again: Rows = engine.nodes[np.delete(which, kept)]
    return again


def _calls(run: Run, call: RepeatedCall, operators: Rows) -> list[Rows]:
    """For each call of a module its operators in the analysed trace, of all steps."""
    twins = run.recorded_rows(operators)
    start = np.where(twins >= 0, run.recorded.events.start[np.maximum(twins, 0)], -1)
    order = np.argsort(start, kind="stable")
    spans = np.array([span for span in call.spans if span[1] > span[0]], np.int64).reshape(-1, 2)
    at = np.searchsorted(start[order], spans - run.recorded.origin_ns)
    return [np.sort(operators[order[lo:hi]]) for lo, hi in at.tolist()]


def _is_random(run: Run, rows: Rows) -> bool:
    """Whether random numbers are drawn: by an operator of its own, or as dropout inside of attention."""
    if len(rows_matching(run.trace, _RANDOM, rows)):
        return True
    given = [run.trace.args_of(row) for row in rows_matching(run.trace, _ATTENTION, rows).tolist()]
    texts = [text for args in given if args is not None and args.concrete for text in args.concrete]
    return any(_POSITIVE.fullmatch(text) for text in texts)
