"""Forward and backward passes whose gradients are all reset before anything reads them.

`loss = closure(); optimizer.step(closure)`: step() runs the closure again, whose zero_grad() resets what the first call computed.
That holds only if nothing can have taken the gradients: no operator between the passes or after the second one that reads more
than a number, no hook of a gradient, no step of an optimizer, and only one optimizer.
"""

from __future__ import annotations

import re
from math import prod

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import inherited
from mfu_doctor.analysis.evidence.backward import maker_of
from mfu_doctor.analysis.evidence.backward_passes import Passes, passes_of
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, outermost, steady_of, under
from mfu_doctor.analysis.names.autograd import ACCUMULATE, ACCUMULATE_CALL, NODE_CALL
from mfu_doctor.analysis.names.vocabulary import LABEL, OPTIMIZER_SPAN, rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import distinct, without
from mfu_doctor.trace import Category

_STEP, _RESET = re.compile(r"^Optimizer\.step#"), re.compile(r"^Optimizer\.zero_grad#")
# What handing a gradient to its parameter does itself; anything else there is a hook that may read it.
_HANDING = re.compile(r"^(aten::)?(detach|add_?|clone|copy_|empty\w*|new_empty\w*)$")


class DiscardedPasses(Struct, frozen=True):
    """Such passes of all steps.

    Attributes:
        rows: operators of forward and calls of nodes, in time order.
        begins: the first operator of each pass.
        roots: the operator before each backward: backward() itself makes the gradient of the loss.
        mask: their entries of the activity table, shape (n,).
        by_step: whether optimizer.step() itself runs the pass that is used: it was given a closure.
        steps: marks of the optimizer's steps that come after these passes.
        resets: marks of the zero_grad() that resets each of them.
    """

    rows: Rows
    begins: Rows
    roots: Rows
    mask: Mask
    by_step: bool
    steps: Rows
    resets: Rows


class _Pass(Struct, frozen=True):
    """One backward pass that writes gradients, with the forward operators that it and its inner gradients consume.

    Attributes:
        forward: outermost operators of forward, in time order.
        nodes: calls of nodes, inner passes (`create_graph`) included.
        backward: start of its last, writing part.
        end: when it has ended.
        alike: names of the nodes of that part, and which of them write or add.
    """

    forward: Rows
    nodes: Rows
    backward: int
    end: int
    alike: tuple[bytes, bytes, bytes]


def discarded_passes_of(run: Run) -> DiscardedPasses | None:
    """The passes without use; None if there are none in some step, or if it is not certain."""
    passes = passes_of(run)
    if passes is None or not passes.fresh.any():
        return None
    calls = _calls(run)
    each = _passes(run, passes, calls)
    whole = each[1:-1]  # the first and the last may be cut
    if not whole or _hooked(run) or _several_optimizers(run, each):
        return None
    if any(one.alike != whole[0].alike for one in whole):
        return None
    known = calls, run.trace.events.start[_spans(run, _RESET)]
    found = [b for a, b, c in zip((None, *each), each, each[1:], strict=False) if _is_lost(run, known, (a, b, c))]
    if not found:
        return None
    rows = np.sort(np.concatenate([part for one in found for part in (one.forward, one.nodes)]))
    begins = np.array([one.forward[0] for one in found], np.int64)
    steady = steady_of(run)
    if len(steady.issued(run, begins)) < steady.count:
        return None
    value = np.zeros(len(run.trace.events) + 1)
    value[rows] = 1.0
    mask = inherited(run, run.launches.op, value) > 0
    starts = np.searchsorted(run.trace.events.start[calls], [one.backward for one in found])
    roots = calls[np.maximum(starts - 1, 0)]
    ends = np.array([one.end for one in found], np.int64)
    closures = run.optimizer_steps.closures.count > 0
    steps = _spans(run, _STEP)
    after = np.searchsorted(run.trace.events.end[steps], ends, side="right")
    return DiscardedPasses(
        rows, begins, roots, mask, closures, steps[after[after < len(steps)]], _next(run, _RESET, ends)
    )


def _passes(run: Run, passes: Passes, calls: Rows) -> list[_Pass]:
    """The passes that write gradients, in time order."""
    events, nodes = run.trace.events, passes.nodes
    makers = maker_of(run, nodes)
    found: list[_Pass] = []
    before = -1  # the last node of the pass before
    numbers = distinct(passes.number[passes.fresh & _writes(run, nodes)])
    begins, ends = (np.searchsorted(passes.number, numbers, side=side).tolist() for side in ("left", "right"))
    started = events.start[calls]
    for writing in map(np.arange, begins, ends):
        mine = np.arange(before + 1, int(writing[-1]) + 1)
        made = distinct(makers[mine][makers[mine] >= 0])
        at = np.searchsorted(started, events.start[made], side="right") - 1
        found.append(
            _Pass(
                calls[distinct(at[at >= 0])],
                nodes[mine],
                int(events.start[nodes[writing[0]]]),
                int(events.end[nodes[writing]].max()),
                (
                    events.name[nodes[writing]].tobytes(),
                    passes.fresh[writing].tobytes(),
                    passes.added[writing].tobytes(),
                ),
            )
        )
        before = int(writing[-1])
    return found


def _writes(run: Run, nodes: Rows) -> Mask:
    """Which of these nodes hand a gradient to a parameter; torch.autograd.grad calls such a node and only takes the gradient."""
    within = run.ops.parent[rows_matching(run.trace, ACCUMULATE, run.trace.rows(Category.CPU_OP))]
    writes: Mask = np.isin(nodes, within)
    return writes


def _calls(run: Run) -> Rows:
    """Operators that the program calls, in time order: no labels, no nodes of backward."""
    ops = run.trace.rows(Category.CPU_OP)
    calls = outermost(run, without(ops, rows_matching(run.trace, LABEL, ops)))
    return without(calls, rows_matching(run.trace, NODE_CALL, calls))


def _is_lost(run: Run, known: tuple[Rows, Rows], passes: tuple[_Pass | None, _Pass, _Pass]) -> bool:
    """Whether the gradients of the second of these passes are reset before the third, and nobody can have taken them.

    Args:
        run: the run.
        known: the operators that the program calls, and when gradients are reset.
        passes: the pass, between the ones before and after it.
    """
    (calls, resets), (before, one, after) = known, passes
    events, own = run.trace.events, run.optimizer_steps.own
    if one.alike != after.alike or not len(one.forward) or not len(after.forward):
        return False
    begins = int(events.start[after.forward[0]])
    if before is not None and events.start[one.forward[0]] < before.end:  # both use this part of forward
        return False
    first, last = np.searchsorted(resets, [one.end, begins])
    update = int(np.searchsorted(own.start, after.end))
    if first >= last or update == own.count or own.clip(one.backward, after.end).total_ns:
        return False
    return not (_reads(run, calls, one.end, begins) or _reads(run, calls, after.end, int(own.start[update])))


def _reads(run: Run, calls: Rows, start: int, end: int) -> bool:
    """Whether one of these operators begins in this time and reads more than single numbers."""
    first, last = np.searchsorted(run.trace.events.start[calls], [start, end])
    return any(_reads_tensor(run, row) for row in calls[first:last].tolist())


def _reads_tensor(run: Run, row: int) -> bool:
    args = run.trace.args_of(row)
    if args is None or args.dims is None:
        return True
    shapes = [s for at in range(len(args.dims)) for s in (args.shape(at), *args.shapes(at)) if s is not None]
    return any(prod(shape) > 1 for shape in shapes)


def _hooked(run: Run) -> bool:
    """Whether a hook runs where gradients are handed to parameters."""
    ops = run.trace.rows(Category.CPU_OP)
    inside = ops[under(run, ops, ACCUMULATE_CALL) >= 0]
    inside = without(inside, rows_matching(run.trace, ACCUMULATE, inside))
    plain = np.isin(inside, rows_matching(run.trace, _HANDING, inside)) & (under(run, inside, ACCUMULATE) >= 0)
    return not bool(plain.all())


def _several_optimizers(run: Run, passes: list[_Pass]) -> bool:
    """Whether several optimizers may share the gradients: of several classes, or two steps without a pass between them."""
    events = run.trace.events
    spans = _spans(run, OPTIMIZER_SPAN)
    classes = {run.trace.name_of(row).partition("#")[2].rpartition(".")[0] for row in spans.tolist()}
    ends = np.sort(events.end[_spans(run, _STEP)])
    turn = np.searchsorted(np.array([one.end for one in passes]), ends)
    return len(classes) > 1 or bool((np.diff(turn) == 0).any())


def _next(run: Run, pattern: re.Pattern[str], times: Rows) -> Rows:
    """The first of such marks from each time on."""
    marks = _spans(run, pattern)
    at = np.searchsorted(run.trace.events.start[marks], times)
    return marks[at[at < len(marks)]]


def _spans(run: Run, pattern: re.Pattern[str]) -> Rows:
    return rows_matching(run.trace, pattern, run.trace.rows(Category.ANNOTATION, Category.CPU_OP))
