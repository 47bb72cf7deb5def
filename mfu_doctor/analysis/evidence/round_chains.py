"""Whether the rounds of a loop need what the rounds before them computed, as the graphs tell that the recorder read.

The depth of a node is the longest way from it to a leaf. Rounds that need no other one have equal depths, node by node. In a
chain each round lies deeper than the one before. What only collects the results of the rounds (a sum) lies deeper as well, but
what it adds up does not: most nodes of a round decide.
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.backward import told_of
from mfu_doctor.analysis.evidence.steady_steps import Rows
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.groups import groups

_MOST = 0.5


def need_each_other(run: Run, nodes: Rows, rounds: Rows) -> bool | None:
    """Whether most of a round lies deeper in the graph from round to round; None if its graph was not read.

    Args:
        run: the run.
        nodes: the engine's calls of the loop's nodes.
        rounds: the round of each.
    """
    depth, number = _depths(run, nodes), run.trace.events.sequence[nodes]
    known = depth >= 0
    order = np.lexsort((number, rounds))
    each = [depth[order][mine] for _, mine in groups(rounds[order])] if known.all() and len(nodes) else []
    usual = max(map(len, each), default=0)
    whole = np.array([one for one in each if len(one) == usual], np.int64)
    if len(whole) <= 1:
        return None
    return bool((whole[-1] - whole[0] >= len(whole) - 1).mean() > _MOST)


def _depths(run: Run, nodes: Rows) -> Rows:
    """The depth of the node that each of these is a call of; -1: not known."""
    told = run.facts.graph_depths if run.facts is not None else None
    return told_of(run, nodes, *((told.sequence, told.depth) if told is not None else ((), ())))
