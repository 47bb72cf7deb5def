"""Whether the rounds of a loop are small networks beside each other: none of them gets what another one computed.

Rounds with weights of their own are the layers of one network, or one network for each column, head or member of an ensemble. A
trace tells names and shapes and not which tensor it was, so this is said only where nothing else is possible. Each operator of a
round takes one tensor besides weights, of the size that the one before it made: the round is a chain. Its first tensor is a part
of data, which has no gradient, or does not have the size of what a round makes, so that it is not the result of the round before.
And the results are collected: added up one by one, or joined after the loop, one from each round.
"""

from __future__ import annotations

import re
from math import prod

import numpy as np

from mfu_doctor.analysis.evidence.attribution import shapes_of
from mfu_doctor.analysis.evidence.backward import maker_of, node_calls
from mfu_doctor.analysis.evidence.python_loops import Loop
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.groups import on_each
from mfu_doctor.analysis.views.once import once
from mfu_doctor.trace import Category

_Shapes = tuple[tuple[int, ...], ...]

_TAKES = re.compile(r"^aten::(select|slice|narrow|index|index_select|unbind|__getitem__)$")
_VIEWS = re.compile(
    r"^aten::((un)?squeeze|_?(unsafe_)?view|reshape|flatten|unflatten|t|transpose|permute|contiguous|alias)$"
)
# One tensor in, one of its size out.
_POINTWISE = re.compile(
    r"^aten::(relu6?|leaky_relu|prelu|gelu|celu|selu|elu|silu|mish|tanh|sigmoid|softplus|softsign|hard(tanh|swish|sigmoid)|exp|log"
    r"|sin|cos|neg|abs|pow|square|sqrt|softmax|log_softmax|dropout|add|sub|mul|div|clamp)_?$"
)
_NORMS = re.compile(r"^aten::(layer_norm|batch_norm|group_norm|instance_norm|rms_norm)$")
_LAYER = "aten::linear"
_ADDS = re.compile(r"^aten::add_?$")
_CUTS = re.compile(r"^aten::(narrow|select)$")  # of a join's gradient, for each of what was joined
_TWO = 2


def are_separate(run: Run, loop: Loop) -> bool:
    """Whether each round is a chain from its own part, and all results are collected; the shapes of one round are looked at."""
    rows = loop.rows[: len(loop.rows) // loop.rounds].tolist()
    chain = [(run.trace.name_of(row), shapes_of(run, row)) for row in rows]
    adds_up = _adds_up(*chain[-1])
    takes, sizes = _chain(chain[:-1] if adds_up else chain)
    if sizes is None:
        return False
    given, made = sizes
    if _of_a_result(run, loop) if takes else given == made:
        return False
    return prod(chain[-1][1][0]) == made if adds_up else _joins(run, loop, made)


def _of_a_result(run: Run, loop: Loop) -> bool:
    """Whether what a round takes its part from may be a result: it has a gradient, or no backward tells that it has none."""
    makers = _pieces(run)
    return not makers or any(row in makers for row in rows_matching(run.trace, _TAKES, loop.rows).tolist())


def _chain(chain: list[tuple[str, _Shapes]]) -> tuple[bool, tuple[int, int] | None]:
    """Whether it begins with taking a part, and how many elements it is given and makes; None if it is no chain."""
    takes, given, made = False, None, None
    for name, shapes in chain:
        if _VIEWS.match(name):
            continue
        if _TAKES.match(name):
            if made is not None:
                return takes, None
            takes = True
            continue
        result = _made_by(name, shapes)
        if result is None or made not in (None, prod(shapes[0])):
            return takes, None
        given, made = prod(shapes[0]) if given is None else given, result
    return takes, None if given is None or made is None else (given, made)


def _made_by(name: str, shapes: _Shapes) -> int | None:
    """Elements of what an operator of one tensor makes; None if it is none, or if its shapes are not known."""
    if not shapes:
        return None
    if name == _LAYER and len(shapes) >= _TWO and len(shapes[1]) == _TWO and shapes[0][-1] == shapes[1][-1]:
        return prod(shapes[0][:-1]) * shapes[1][0]
    alone = _POINTWISE.match(name) is not None and len(shapes) == 1
    return prod(shapes[0]) if alone or _NORMS.match(name) else None


def _adds_up(name: str, shapes: _Shapes) -> bool:
    """Whether it adds what a round made to the sum so far."""
    return _ADDS.match(name) is not None and len(shapes) == _TWO and shapes[0] == shapes[1]


def _joins(run: Run, loop: Loop, made: int) -> bool:
    """Whether what comes right after the loop joins one result of each round.

    Of a long list no shapes are recorded (over 30 tensors). Then backward tells: it cuts the gradient into so many pieces.
    """
    if loop.join < 0:
        return False
    results = shapes_of(run, loop.join)
    if results:
        return len(results) == loop.rounds and all(prod(shape) == made for shape in results)
    return _pieces(run).get(loop.join) == loop.rounds


@once
def _pieces(run: Run) -> dict[int, int]:
    """For each operator with a node in backward how many parts of a gradient that node takes."""
    events, rows = run.trace.events, run.trace.rows(Category.CPU_OP)
    nodes = node_calls(run, rows)
    cuts = rows_matching(run.trace, _CUTS, rows)
    track = events.track[nodes]
    count = np.zeros(len(nodes), np.int64)
    for mine, here in on_each(track, events.track[cuts]):
        start = events.start[cuts[here]]
        lo, hi = (np.searchsorted(start, at[nodes[mine]]) for at in (events.start, events.end))
        count[mine] = hi - lo
    return dict(zip(maker_of(run, nodes).tolist(), count.tolist(), strict=True))
