"""Steps issue the same kernels in the same order each time, one launch after another, where one graph launch would do.

What it measures
    Whether all steady steps run the same kernels with the same grids in the same order, whether the host waits inside
    them, and how long launching leaves the device idle.

Why it costs
    A CUDA graph replays hundreds of kernels with one call; the host then needs microseconds for what takes it
    milliseconds.

How the gain is predicted
    The host time of issuing shrinks to a graph launch of as many nodes (mid), to 30 % (low: inputs are copied, Python
    remains around the graph), to nothing (high).

How to fix
    torch.cuda.make_graphed_callables, torch.cuda.graph around the step, or torch.compile(mode="reduce-overhead").

When it is wrong
    Dropout needs graph-safe random numbers (PyTorch has them); data-dependent branches that were equal by chance in these
    steps.

References
    https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.edits import Change, ScaleHost
from mfu_doctor.analysis.hosting import GRAPH_LEAST, GRAPH_NODE_NS, hosting_of, joined, late
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.steady import Rows, part_of, steady_of
from mfu_doctor.analysis.steps import WHOLE
from mfu_doctor.analysis.syncs import find_syncs
from mfu_doctor.analysis.vocabulary import GRAPH_LAUNCH, ids_matching
from mfu_doctor.phrasing import counted, number
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import seconds

# Launch idle below this share of the step leaves a graph nothing to save.
SEEN_SHARE = 0.01
# Cautious end: memory for static inputs and copies into them, and Python around the graph, keep this part of the host time.
_CAUTIOUS = 0.3
_COPY = re.compile(r"^Mem(cpy|set)")


@rule("ungraphed-steps", "HO007", "equal steps are launched kernel by kernel", needs=("device",))
def ungraphed_steps(run: Run) -> Outcome:
    """Judge whether steps could be CUDA graphs."""
    steady = steady_of(run)
    idle = part_of(run, "launch", "python")
    if idle.mean_ns < SEEN_SHARE * steady.step_ns or len(ids_matching(run.trace, GRAPH_LAUNCH)):
        return None
    if steady.count < 2 or run.steps.source == WHOLE:
        return Skip("whether steps are equal needs two steady steps: record more")
    sequences = _by_step(run)
    if any(len(s) != len(sequences[0]) or (s != sequences[0]).any() for s in sequences):
        return Skip("the kernels differ from step to step (changing shapes or branches), so a graph cannot be proposed")
    syncs = find_syncs(run, steady)
    if len(syncs.calls):
        per_step = counted(steady.per_step(len(syncs.calls)), "synchronisation")
        return Skip(
            f"{per_step} a step would have to go first: a graph cannot be captured across one (see device-sync)"
        )
    host = hosting_of(run, steady)
    everything = joined(host.issuing, host.dispatch)
    waited_for = everything & late(run)
    total = max(steady.per_step(float((everything & steady.host).total_ns)), 1.0)
    graph = min(max(host.operations * GRAPH_NODE_NS / total, GRAPH_LEAST), 1.0)
    return Finding(
        summary=f"{number(len(sequences[0]))} equal launches in each of {steady.count} steps; launching leaves the GPU idle "
        f"{idle.of_step}",
        fix="step = torch.cuda.make_graphed_callables(model, (example_batch,))",
        detail="the same kernels in the same order in every step and no synchronisation inside: a CUDA graph fits",
        change=Change(
            (ScaleHost(waited_for, max(_CAUTIOUS, graph)),),
            (ScaleHost(everything, graph),),
            (ScaleHost(everything, 0.0),),
        ),
        evidence=(
            shown("launches", len(sequences[0]), "per step"),
            shown("equal steps", steady.count, "count"),
            shown("GPU idle", seconds(idle.stated_ns), "s"),
        ),
        effort="refactor",
        symptom_of=("host-bound",),
    )


def _by_step(run: Run) -> list[Rows]:
    edges = zip(run.steps.start[run.steps.steady], run.steps.end[run.steps.steady], strict=True)
    return [_kernels(run, int(start), int(end)) for start, end in edges]


def _kernels(run: Run, start: int, end: int) -> Rows:
    """Names and grids of the kernels of one step in order."""
    activity, events = run.activity, run.trace.events
    row = activity.row[(activity.start >= start) & (activity.start < end)]
    row = row[~np.isin(events.name[row], ids_matching(run.trace, _COPY))]
    order = np.lexsort((events.start[row], events.track[row]))
    grids = {grid: i for i, grid in enumerate(dict.fromkeys(a.grid for a in run.trace.args))}
    of_args = np.array([grids[a.grid] for a in run.trace.args] + [-1], np.int64)
    return events.name[row][order].astype(np.int64) * (len(grids) + 2) + of_args[events.args[row][order]]
