"""Host time that autograd's graph takes as a whole: finding the order of its nodes, and freeing them and what they kept.

No operator stands for it. The engine walks all nodes between the gradient of the loss (`ones_like`) and the first node. The graph
and its tensors are freed in gaps before and after backward; the user's own Python is in these gaps as well, so each counts for no
more than the engine's walk.
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.backward import node_calls
from mfu_doctor.analysis.evidence.loop_kinds import SmallOps
from mfu_doctor.analysis.evidence.steady_steps import Rows, outermost
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.trace import Category

_SEED = re.compile(r"^aten::ones_like$")


def graph_walks(run: Run, loops: list[SmallOps]) -> list[tuple[Intervals, float]]:
    """For each backward pass the time of its walks, and the share of its nodes that belongs to these loops (if any)."""
    events = run.trace.events
    ops = run.trace.rows(Category.CPU_OP)
    main = outermost(run, ops[events.track[ops] == run.host.main_track])
    nodes = node_calls(run, ops)
    nodes = nodes[np.argsort(events.start[nodes], kind="stable")]
    mine = np.isin(nodes, np.concatenate([found.nodes for found in loops]))
    seeds = main[np.isin(events.name[main], ids_matching(run.trace, _SEED))]
    begin = np.searchsorted(events.start[nodes], events.end[seeds])
    last = np.append(begin, len(nodes))[1:]
    out = []
    for seed, a, b in zip(seeds.tolist(), begin.tolist(), last.tolist(), strict=True):
        if b > a and mine[a:b].any() and _is_next(run, main, seed, int(nodes[a])):
            out.append((_walks(run, main, seed, nodes[a:b]), float(mine[a:b].mean())))
    return out


def _is_next(run: Run, main: Rows, seed: int, node: int) -> bool:
    """Whether no other operator of the main thread begins between the two: the seed is that of this pass."""
    start = run.trace.events.start
    lo, hi = np.searchsorted(start[main], (start[seed], start[node]))
    return int(hi - lo) == 1


def _walks(run: Run, main: Rows, seed: int, nodes: Rows) -> Intervals:
    """The engine's walk, and as much of the gaps before and after this pass as freeing could take."""
    events = run.trace.events
    walked, first = int(events.end[seed]), int(events.start[nodes[0]])
    done = int(events.end[nodes].max())
    earlier = main[events.end[main] <= events.start[seed]]
    later = main[events.start[main] >= done]
    before = int(events.end[earlier[-1]]) if len(earlier) else int(events.start[seed])
    after = int(events.start[later[0]]) if len(later) else done
    longest = first - walked
    starts = np.array([max(before, int(events.start[seed]) - longest), walked, done])
    ends = np.array([int(events.start[seed]), first, min(after, done + longest)])
    return union(starts, np.maximum(ends, starts))
