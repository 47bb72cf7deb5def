"""What a loop of small operators could become: one call for all rounds, one recurrent layer, or neither.

Its backward tells. Autograd gives an operator and its node in backward the same sequence number. If each round has weights of
its own, they get their gradients round by round: the rounds are the layers of a network, or networks beside each other. If the
first round's nodes do less than those of the others, then only the first one's input needs no gradient, and every other round
continues from the one before. Writing its result into its part of a tensor that was new before the loop looks the same, but no
round needs what others wrote.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import shapes_of
from mfu_doctor.analysis.evidence.backward import maker_of, node_calls
from mfu_doctor.analysis.evidence.cell_inputs import CELL, are_given
from mfu_doctor.analysis.evidence.diagnostics import WRITES_TEXT
from mfu_doctor.analysis.evidence.python_loops import Loop, find_loops
from mfu_doctor.analysis.evidence.round_chains import need_each_other
from mfu_doctor.analysis.evidence.round_weights import weights_of_rounds
from mfu_doctor.analysis.evidence.separate_rounds import are_separate
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows
from mfu_doctor.analysis.names.autograd import ACCUMULATE_CALL, NODE, NODE_CALL
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.groups import members, on_each
from mfu_doctor.analysis.views.once import once
from mfu_doctor.arrays.distinct import without
from mfu_doctor.arrays.intervals import EMPTY, Intervals, union
from mfu_doctor.trace import Category

Kind: TypeAlias = Literal["parts", "layers-per-part", "cells", "backward-per-part", "networks"]
_LAYER = re.compile(
    r"^aten::(linear|addmm|mm|bmm|matmul|conv\w*|lstm\w*|gru\w*|rnn\w*|embedding|scaled_dot_product_attention)$"
)
# Puts a result into its part of a tensor: what it does more in later rounds is the gradient of the other parts.
_WRITE = re.compile(
    rf"{NODE_CALL.pattern}(torch::autograd::CopySlices"
    r"|(Index(Put|Copy|Add|Fill|Reduce)|Scatter|(Slice|Select|Diagonal|AsStrided|Masked)Scatter|MaskedFill|Put|Where)\w*"
    r"Backward\d+)$"
)
# Lengthens a tensor by a result; but what joins a state to an input, for a layer, looks the same.
_LENGTHEN = re.compile(rf"{NODE_CALL.pattern}(Cat|Stack)Backward\d+$")
_COLLECTS = re.compile(r"^aten::(stack|cat|hstack|vstack|concat)$")
_GATE = re.compile(r"aten::sigmoid_? |aten::add_? aten::tanh_? ")  # of a cell; a layer's own tanh follows its product
# A total: one reduction, though it continues.
_ADDS = re.compile(r"^((aten::(select|squeeze|view|reshape|detach) )*)aten::add_?$")
_ONE = 1  # sample in a batch


class SmallOps(Struct, frozen=True):
    """A loop that could be fewer operators.

    Attributes:
        loop: the loop in forward.
        kind: "parts": its rounds have no weights; "layers-per-part": they share weights, and nothing shows that one needs the one
            before; "cells": each continues from the one before; "backward-per-part": each calls backward for its part;
            "networks": each has weights of its own, and needs no other.
        inside: its host time in nanoseconds, forward and backward.
        nodes: rows of its nodes in backward (the engine's calls), shape (n,).
        weights: of all networks together; 0 if rounds share them, or have none, None if nothing tells.
    """

    loop: Loop
    kind: Kind
    inside: Intervals
    nodes: Rows
    weights: int | None = 0


class _Nodes(Struct, frozen=True):
    """Nodes of backward that belong to loops, in the time order of each thread.

    Attributes:
        row: the engine's call of a node, shape (n,).
        loop: index of its loop, -1: none, shape (n,).
        work: operators inside of it, shape (n,).
        round: the round of its loop, shape (n,).
        hands_over: whether it hands a parameter its gradient, shape (n,).
        writes: whether it is of an operator that puts a round's result into its part of a tensor, shape (n,).
        lengthens: whether it is of one that lengthens a tensor by a round's result, shape (n,).
    """

    row: Rows
    loop: Rows
    work: Rows
    round: Rows
    hands_over: Mask
    writes: Mask
    lengthens: Mask


@once
def small_ops(run: Run) -> list[SmallOps]:
    """Loops of the main thread that one call or one layer could replace, in time order."""
    loops = [loop for loop in find_loops(run) if loop.takes_parts]
    text = run.user_code.called_from(np.array([loop.row for loop in loops], np.int64), WRITES_TEXT)
    # what writes a tensor as text is no loop of the program's
    loops = [loop for loop, writes in zip(loops, text.tolist(), strict=True) if not writes]
    if not loops:
        return []
    nodes = _nodes_of(run, loops)
    mine_of = members(nodes.loop, len(loops))
    together = _together(loops, mine_of)
    rows = run.trace.rows(Category.CPU_OP)
    rows = rows[run.trace.events.track[rows] == run.host.main_track]
    out = []
    for loop, mine, (all_nodes, rounds) in zip(loops, mine_of, together, strict=True):
        if loop.backward:
            out += _with_backward(run, loop)
            continue
        handed = _handed_within(nodes, all_nodes)
        trained = len(handed)
        chained = need_each_other(run, nodes.row[mine], nodes.round[mine])
        if trained >= rounds:
            if loop.again < 0 and not chained and max(_sizes(run, loop), default=0) == 1 and are_separate(run, loop):
                whole = np.union1d(mine, handed)
                out.append(SmallOps(loop, "networks", _inside(run, loop, nodes, whole), nodes.row[whole], trained))
            continue
        names = _all_names(run, loop, rows)
        continues = _continues(nodes, mine, loop, names) if chained is None else chained
        kind = _kind(loop, names, trained, continues=continues) if are_given(run, loop) else None
        if kind is not None and (loop.again < 0 or _is_surely_one(run, loop, kind)):
            out.append(SmallOps(loop, kind, _inside(run, loop, nodes, mine), nodes.row[mine]))
    return out


def _with_backward(run: Run, loop: Loop) -> list[SmallOps]:
    """A loop that calls backward in each round: the parts of a batch, or networks, which differ in size if no call takes all."""
    weights = weights_of_rounds(run, loop)
    if weights and is_uneven(run, loop):
        return []
    within = union(np.array([loop.start]), np.array([loop.end]))
    return [SmallOps(loop, "networks" if weights else "backward-per-part", within, np.empty(0, np.int64), weights)]


def _together(loops: list[Loop], mine: list[Rows]) -> list[tuple[Rows, int]]:
    """For each loop its nodes and rounds, with those of the same loop that the step runs again."""
    whole: dict[int, tuple[list[Rows], int]] = {}
    for at, (loop, its) in enumerate(zip(loops, mine, strict=True)):
        nodes, rounds = whole.get(_key(loop, at), ([], 0))
        whole[_key(loop, at)] = [*nodes, its], rounds + loop.rounds
    joined = {key: (np.sort(np.concatenate(nodes)), rounds) for key, (nodes, rounds) in whole.items()}
    return [joined[_key(loop, at)] for at, loop in enumerate(loops)]


def _key(loop: Loop, at: int) -> int:
    return loop.again if loop.again >= 0 else -1 - at


def _is_surely_one(run: Run, loop: Loop, kind: Kind) -> bool:
    """Whether a loop of few rounds goes over equal parts, one by one, as far as shapes tell.

    The levels of a pyramid have few rounds as well, and differ in size: no one call takes all of them. Layers in a row have
    whole batches.
    """
    sizes = _sizes(run, loop)
    layers = rows_matching(run.trace, _LAYER, loop.rows[: len(loop.rows) // loop.rounds]).tolist()
    takes_one = any(shapes[0][0] == _ONE for row in layers if (shapes := shapes_of(run, row)))
    return max(sizes, default=0) == 1 and (kind != "layers-per-part" or takes_one)


def _all_names(run: Run, loop: Loop, rows: Rows) -> list[str]:
    """Names of all operators of the first round, with what they call; `rows`: the operators of the main thread."""
    events = run.trace.events
    first = loop.rows[: len(loop.rows) // loop.rounds]
    lo, hi = np.searchsorted(events.start[rows], (events.start[first[0]], events.end[first[-1]]))
    return [run.trace.name_of(int(row)) for row in rows[lo:hi]]


def _kind(loop: Loop, names: list[str], trained: int, *, continues: bool) -> Kind | None:
    if any(CELL.match(name) for name in names):
        return "cells"
    if not _has_layers(names):
        adds = loop.join < 0 and _ADDS.match(" ".join(loop.names))
        return None if continues and not adds else "parts"
    if not trained:  # the layers of a network that is not trained repeat themselves too
        return None
    if _GATE.search(" ".join((*names, ""))):
        return "cells"
    if continues:  # without a part of a sequence in each round it is no recurrent layer: an integrator, an iteration
        return "cells" if loop.takes_each else None
    return "layers-per-part"


def _has_layers(names: list[str]) -> bool:
    return any(_LAYER.match(name) for name in names)


def _handed_within(nodes: _Nodes, mine: Rows) -> Rows:
    """The nodes that hand a parameter its gradient while these nodes run, or right after them."""
    if not len(mine):
        return mine
    last = int(mine[-1]) + 1
    while last < len(nodes.row) and nodes.hands_over[last]:
        last += 1
    return int(mine[0]) + np.flatnonzero(nodes.hands_over[mine[0] : last])


def _continues(nodes: _Nodes, mine: Rows, loop: Loop, names: list[str]) -> bool:
    """Whether the nodes of the first round do less than those of every other one; of the last one not all may be needed."""
    collects = nodes.writes if _has_layers(names) else nodes.writes | nodes.lengthens
    mine = mine[~collects[mine]]
    if not len(mine):
        return False
    work = np.bincount(nodes.round[mine], nodes.work[mine], minlength=loop.rounds)
    return bool(work[0] < work[1:-1].min())


def _nodes_of(run: Run, loops: list[Loop]) -> _Nodes:
    """The nodes of backward, and to which round of which loop each belongs."""
    events = run.trace.events
    ops = run.trace.rows(Category.CPU_OP)
    nodes = node_calls(run, ops)
    nodes = nodes[np.lexsort((events.start[nodes], events.track[nodes]))]
    makers = maker_of(run, nodes)
    loop, round_ = _where(run, loops, np.where(makers >= 0, events.start[makers], -1))
    patterns = (ACCUMULATE_CALL, _WRITE, _LENGTHEN)
    hands_over, writes, lengthens = (np.isin(nodes, rows_matching(run.trace, p, nodes)) for p in patterns)
    return _Nodes(nodes, loop, _operators_inside(run, nodes, ops), round_, hands_over, writes, lengthens)


def _where(run: Run, loops: list[Loop], time: Rows) -> tuple[Rows, Rows]:
    """Index of the loop and of its round that each time lies in, -1: in none."""
    start, end = np.array([loop.start for loop in loops]), np.array([loop.end for loop in loops])
    at = np.maximum(np.searchsorted(start, time, side="right") - 1, 0)
    inside = (time >= start[at]) & (time < end[at])
    loop = np.where(inside, at, -1)
    round_ = np.full(len(time), -1)
    for one, mine in zip(loops, members(loop, len(loops)), strict=True):
        position = np.searchsorted(run.trace.events.start[one.rows], time[mine], side="right") - 1
        round_[mine] = np.clip(position // (len(one.rows) // one.rounds), 0, one.rounds - 1)
    return loop, round_


def _operators_inside(run: Run, calls: Rows, ops: Rows) -> Rows:
    """For each of these calls of a node how many operators its own gradient runs; the engine's additions are outside of it."""
    events = run.trace.events
    count = np.zeros(len(calls), np.int64)
    for mine, here in on_each(events.track[calls], events.track[ops]):
        rows = ops[here]
        inner = without(rows_matching(run.trace, NODE, rows), calls)
        first = np.searchsorted(events.start[rows], events.start[inner])
        last = np.searchsorted(events.start[rows], events.end[inner])
        of_call = np.searchsorted(events.start[calls[mine]], events.start[inner], side="right") - 1
        np.add.at(count, mine[np.maximum(of_call, 0)], last - first)
    return count


def _inside(run: Run, loop: Loop, nodes: _Nodes, mine: Rows) -> Intervals:
    """Host time of the loop and of the stretches of its nodes (their positions) in backward."""
    events = run.trace.events
    row = nodes.row[mine]
    apart = (np.diff(mine) != 1) | (np.diff(events.track[row]) != 0)
    first = np.flatnonzero(np.concatenate((np.ones(min(len(mine), 1), np.bool_), apart)))
    last = np.flatnonzero(np.concatenate((apart, np.ones(min(len(mine), 1), np.bool_))))
    return union(np.append(events.start[row[first]], loop.start), np.append(events.end[row[last]], loop.end))


def is_uneven(run: Run, loop: Loop) -> bool:
    """Whether recorded shapes show rounds of different sizes; what collects results grows in any loop."""
    return max(_sizes(run, loop), default=0) > 1


def _sizes(run: Run, loop: Loop) -> list[int]:
    """How many recorded shapes each operator of a round has over all rounds, without those that collect results."""
    body = len(loop.rows) // loop.rounds
    counts = []
    for position in range(body):
        rows = loop.rows[position::body]
        if not _COLLECTS.match(run.trace.name_of(int(rows[0]))):
            _, first = np.unique(run.trace.events.args[rows], return_index=True)
            sizes = {args.dims for row in rows[first] if (args := run.trace.args_of(int(row))) is not None}
            counts.append(len(sizes - {None}))
    return counts


def time_of(loops: list[SmallOps]) -> Intervals:
    """Host time of these loops, forward and backward."""
    inside = [found.inside for found in loops]
    return union(np.concatenate([i.start for i in inside]), np.concatenate([i.end for i in inside])) if loops else EMPTY


def owns_most(run: Run, where: Intervals) -> bool:
    """Whether most of this host time is inside of such loops: their finding is then the cause."""
    loops = small_ops(run)
    return bool(loops) and (where & time_of(loops)).total_ns > where.total_ns / 2
