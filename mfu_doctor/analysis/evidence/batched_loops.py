"""What a loop of small operators takes as few large ones: the dispatch of one round, and the work of all.

A small operator takes what dispatching it takes. One operator for all rounds is dispatched once; what it computes and moves is
the sum of the rounds', at the rates of the device. What takes or writes its part by an index (a mask, row numbers) goes over the
whole in each round, and once in one call. A recurrent layer projects its inputs and computes the gradients of its weights in one
matmul for all rounds, but the matmuls of its state run one after another. The engine walks the graph of all nodes when backward
begins, and the graph is freed after it: that time goes with the nodes. Rounds that call backward each read all weights and add to
all gradients; one pass over all parts does that once. Networks beside each other have one tensor for each weight of one network,
which the optimizer then takes at once.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.attribution import work_in_each
from mfu_doctor.analysis.evidence.gemms import gemms_of
from mfu_doctor.analysis.evidence.graph_walks import graph_walks
from mfu_doctor.analysis.evidence.loop_kinds import SmallOps
from mfu_doctor.analysis.evidence.stacked_weights import fewer_tensors
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, under
from mfu_doctor.analysis.names.autograd import ACCUMULATE_CALL, NODE_CALL
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleDevice, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED
from mfu_doctor.analysis.views.kernels import DTYPE_CODES
from mfu_doctor.units import NS_PER_S

Floats = npt.NDArray[np.float64]

# Operators that give a tensor another shape or fresh memory: they move nothing, whatever their kind.
_MOVES_NOTHING = re.compile(
    r"^aten::(as_strided|_?(unsafe_)?view|t|transpose|permute|expand(_as)?|select|slice|narrow|unsqueeze|squeeze|detach|alias|unbind"
    r"|(unsafe_)?(split|chunk)\w*|empty\w*|new_empty\w*|resize_\w*|broadcast_tensors|reshape|resolve_conj|resolve_neg|to|_to_copy)$"
)
# In backward of a loop, each part writes a tensor of the size of the whole; one operator for all parts writes it once.
_PARTS = re.compile(
    r"(^|: )(torch::autograd::CopySlices|(Select|Slice|Split\w*|UnsafeSplit\w*|Unbind|Narrow|Index\w*|Gather|Stack|Cat|Chunk"
    r"|Scatter\w*|\w+Scatter|MaskedSelect|Take|Put)Backward\d+)$"
)
# Takes or writes its part by an index: its recorded shapes are those of the whole, which one call for all rounds reads once.
_BY_INDEX = re.compile(
    r"^aten::(_?(unsafe_)?index\w*|gather|take\w*|masked_(select|scatter_?)|nonzero\w*|scatter\w*|\w+_scatter|put_?)$"
)
_ADDS = re.compile(r"^aten::add_?$")


class _End(Struct, frozen=True):
    """One end of the estimate: what stays of what a loop takes now.

    Attributes:
        least: share that stays of everything, whatever it could be at best.
        unknown: share that stays of work whose size is not known.
        efficiency: share of the peak and of the bandwidth that the large operators reach.
    """

    least: float
    unknown: float
    efficiency: float


_GATES = (1, 3, 4)  # of RNN, GRU and LSTM: a state of n is multiplied by weights of n times so many times n
# Rewrites differ in how much of a loop they take over: the low end leaves a quarter of everything.
_ENDS = (_End(0.25, 0.5, 0.5), _End(0.0, 0.1, 0.7), _End(0.0, 0.0, 1.0))


def batched(run: Run, loops: list[SmallOps]) -> Change:
    """Each loop as few large operators, at the low, mid and high end."""
    state, mine = _state_products(run), work_in_each(run, [found.inside for found in loops])
    low, mid, high = (_edits(run, list(zip(loops, mine, strict=True)), end, state) for end in _ENDS)
    networks = [found for found in loops if found.kind == "networks"]
    fewer = fewer_tensors(run, networks) if networks else ()
    return Change(low, (*mid, *fewer), (*high, *fewer))


def _edits(run: Run, loops: list[tuple[SmallOps, Rows]], end: _End, state: Mask) -> tuple[Edit, ...]:
    """`loops`: each with its entries of the activity table."""
    now, work = run.unrecorded_ns, _work_ns(run, end)
    # At best the matmuls of the state reach the peak as well. A layer's pointwise work is part of them.
    of_cells = np.where(
        state, now if end.unknown else work, np.where(run.kernels.matmul_like, work, end.unknown * work)
    )
    by_index, accumulates = _named(run, _BY_INDEX), under(run, run.launches.op, ACCUMULATE_CALL) >= 0
    host: list[Edit] = []
    left = np.full(run.activity.count, np.nan)
    busy = run.activity.busy()
    for found, mine in loops:
        once = 1.0 / found.loop.rounds
        whole = by_index[mine] | found.loop.masks
        if found.kind == "backward-per-part":  # all weights are read, and their gradients written, once
            stays = _work_ns(run, end, weights=once)[mine]
            whole |= accumulates[mine]
        else:
            stays = (of_cells if found.kind == "cells" else work)[mine]
        stays = stays * np.where(whole, once, 1.0)
        left[mine] = np.minimum(np.maximum(now[mine] * once + stays, end.least * now[mine]), now[mine])
        where = found.inside - busy if run.is_cpu else found.inside
        host.append(ScaleHost(where, max(once, end.least)))
    host += [
        ScaleHost(walk, max(1.0 - share, end.least)) for walk, share in graph_walks(run, [found for found, _ in loops])
    ]
    mine = np.flatnonzero(~np.isnan(left))
    rows, of_row = np.unique(run.activity.row[mine], return_inverse=True)
    before, after = np.bincount(of_row, now[mine]), np.bincount(of_row, left[mine])
    return (ScaleDevice(rows, np.divide(after, before, out=np.zeros(len(rows)), where=before > 0)), *host)


def _work_ns(run: Run, end: _End, weights: float = 1.0) -> Floats:
    """What each entry computes and moves at the rates of large operators, in nanoseconds, shape (n,); its dispatch left out.

    Matmuls move `weights` of what they move now.
    """
    peak = np.array([run.peaks.of(dtype) or np.nan for dtype in DTYPE_CODES])[run.kernels.dtype]
    computing = run.flops.per_entry(EXECUTED) / (peak * end.efficiency) * NS_PER_S
    bandwidth = run.peaks.bandwidth or np.nan
    moving = run.least_bytes / (bandwidth * end.efficiency) * NS_PER_S
    moving = np.where(run.kernels.matmul_like, moving * weights, moving)
    known = np.fmax(np.where(computing > 0, computing, np.nan), moving)
    work = np.where(np.isnan(known), end.unknown * run.unrecorded_ns, np.minimum(known, run.unrecorded_ns))
    return np.where(_moves_nothing(run), 0.0, work)


def _moves_nothing(run: Run) -> Mask:
    """Entries that one operator for all rounds has no part for: shapes, wrappers, gradients of parts, and their additions."""
    op = run.launches.op
    named = _named(run, _MOVES_NOTHING)
    wrapper = run.kernels.is_kind("other") & run.is_cpu & np.isnan(run.least_bytes)
    parts = (under(run, op, _PARTS) >= 0) & (op >= 0)
    adds = _named(run, _ADDS)
    parent = np.where(op >= 0, run.ops.parent[np.maximum(op, 0)], -1)
    by_engine = np.isin(run.trace.events.name[np.maximum(parent, 0)], ids_matching(run.trace, NODE_CALL)) & (
        parent >= 0
    )
    out: Mask = (named & run.is_cpu) | wrapper | parts | (adds & by_engine)
    return out


def _named(run: Run, pattern: re.Pattern[str]) -> Mask:
    """Entries of operators with such a name, shape (n,)."""
    op = run.launches.op
    out: Mask = np.isin(run.trace.events.name[np.maximum(op, 0)], ids_matching(run.trace, pattern)) & (op >= 0)
    return out


def _state_products(run: Run) -> Mask:
    """Matmuls of a state with its own weights, forward and backward: their sizes fit the gates of a cell; shape (n,).

    Where sizes are not known, any matmul may be one.
    """
    state = run.kernels.matmul_like.copy()
    gemms = gemms_of(run)
    if gemms is None:
        return state
    fits = [(gemms.n == gates * gemms.k) | (gemms.k == gates * gemms.n) for gates in _GATES]
    state[gemms.entry] = np.logical_or.reduce(fits)
    return state
