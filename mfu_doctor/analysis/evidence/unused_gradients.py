"""Gradients that backward computes and nobody uses: those of parameters that no optimizer has, and those that are thrown away.

profile() reads the graphs of the recorded steps and follows what becomes of their gradients. Any other trace shows only whether a
gradient is new for a parameter that was reset, or added to an old gradient that was not used: an optimizer uses a gradient and
resets it, and the next backward pass writes a new one. If the first backward pass after an optimizer step adds to an old one, the
optimizer of this pass does not reset this parameter. Either no optimizer resets it, or that of another pass does (a GAN whose two
networks take turns), and throws this gradient away.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import calls_of
from mfu_doctor.analysis.evidence.backward import nodes_of_passes
from mfu_doctor.analysis.evidence.backward_passes import Passes, passes_of
from mfu_doctor.analysis.evidence.needless_backward import PRODUCTS, Nodes
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows
from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import OPTIMIZER_MARK
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.facts.wasted_work import UnusedGradients

_ALL = (1 << 8) - 1  # all inputs of a layer's node as bits


class Unused(Struct, frozen=True):
    """Gradients that are computed for nothing.

    Attributes:
        nodes: the calls that compute them, all steps.
        thrown: whether the optimizer of another pass resets them; else no optimizer has their parameters.
        parameters: how many parameters they are of; None if the trace does not tell.
        modules: modules that consist of such parameters, if known.
    """

    nodes: Nodes
    thrown: bool
    parameters: int | None = None
    modules: tuple[str, ...] = ()


def unused_gradients_of(run: Run) -> tuple[Unused, ...]:
    """The unused gradients of a run; empty if it has none, or if it does not show them."""
    told = run.facts.unused_gradients if run.facts is not None else None
    if told is not None:
        return tuple(_of_group(run, group) for group in told)
    found = _by_writing(run)
    return () if found is None else (found,)


def _of_group(run: Run, group: UnusedGradients) -> Unused:
    """The recorder knows the graph: its nodes have the numbers of those in the step that was recorded in depth."""
    rows, at = nodes_of_passes(run, group.sequence, group.root)
    nodes = Nodes(rows, np.array(group.unused, np.int64)[at], np.array(group.needed, np.int64)[at])
    return Unused(nodes, group.fate == "thrown", group.parameters, group.modules)


def _by_writing(run: Run) -> Unused | None:
    """What the writing of gradients shows."""
    marks = calls_of(run, OPTIMIZER_MARK)
    passes = passes_of(run)
    if passes is None or not len(marks):
        return None
    nodes = passes.nodes
    tail, thrown = _tails(passes, _first_passes(run, marks, passes))
    unused, needed = np.where(tail, _ALL, 0), np.zeros(len(nodes), np.int64)
    if _all_alike(passes):  # no pass ever resets what another one adds to
        inner = ~tail & _before_added(passes)
        data = np.array([1 << PRODUCTS.get(_name(run, row), (0,))[0] for row in nodes.tolist()], np.int64)
        unused, needed = np.where(inner, _ALL & ~data, unused), np.where(inner, data, needed)
    mine = unused > 0
    return Unused(Nodes(nodes[mine], unused[mine], needed[mine]), thrown) if mine.any() else None


def _tails(passes: Passes, first: list[int]) -> tuple[Mask, bool]:
    """Nodes after the last new gradient of such a pass, if gradients are added there, shape (n,).

    Also whether passes without such a tail write as many new gradients: another optimizer resets and uses them.
    """
    found, elsewhere, largest = np.zeros(len(passes.nodes), np.bool_), 0, 0
    edges = (np.searchsorted(passes.number, first, side=side).tolist() for side in ("left", "right"))
    for begin, end in zip(*edges, strict=True):
        fresh = np.flatnonzero(passes.fresh[begin:end])
        if not len(fresh):
            continue
        tail = slice(begin + int(fresh[-1]) + 1, end)
        added = int(passes.added[tail].sum())
        if added:
            found[tail] = True
            largest = max(largest, added)
        else:
            elsewhere = max(elsewhere, len(fresh))
    return found, 0 < largest <= elsewhere


def _all_alike(passes: Passes) -> bool:
    """Whether all passes write as many new gradients, and add as many to old ones."""
    _, number = np.unique(passes.number, return_inverse=True)
    written = np.stack((np.bincount(number, passes.fresh), np.bincount(number, passes.added)))[
        :, :-1
    ]  # the last may be cut
    return written.size > 0 and bool((written == written[:, :1]).all())


def _before_added(passes: Passes) -> Mask:
    """Nodes whose gradients of parameters are all added to old ones, in a pass that writes new ones too; shape (n,)."""
    found: Mask = passes.handing(passes.added) & ~passes.handing(passes.fresh)
    return found & np.isin(passes.number, passes.number[passes.fresh])


def _first_passes(run: Run, marks: Rows, passes: Passes) -> list[int]:
    """Number of the first backward pass after each optimizer step."""
    begins = run.trace.events.start[passes.nodes]
    at = np.searchsorted(begins, run.trace.events.end[marks])
    return [int(number) for number in distinct(passes.number[at[at < len(begins)]])]


def _name(run: Run, row: int) -> str:
    return NODE_CALL.sub("", run.trace.name_of(row))
