"""Whether each step could be one CUDA graph, and whether a model could be compiled, or why not.

A CUDA graph runs exactly the captured kernels with their captured sizes, and the host cannot read a result in between. A rule
may recommend one only if this run shows that. Otherwise the advice contains the reason.
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.backward import is_differentiated
from mfu_doctor.analysis.evidence.steady_steps import Rows, Steady
from mfu_doctor.analysis.evidence.syncs import find_syncs
from mfu_doctor.analysis.names.vocabulary import GRAPH_LAUNCH, ids_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.once import once
from mfu_doctor.analysis.views.steps import WHOLE
from mfu_doctor.quantities import counted

_COPY = re.compile(r"^Mem(cpy|set)")
_COMPILED = re.compile(r"Torch-Compiled Region|^triton_(poi|per|red|tem)_|CompiledFunction|^## Call CompiledFxGraph")


def comparable(run: Run, steady: Steady) -> bool:
    """Whether there are steps to compare: without, nothing tells whether each of them is the same."""
    return steady.count > 1 and run.steps.source != WHOLE


def obstacle_to_graph(run: Run, steady: Steady) -> str | None:
    """Why a CUDA graph of the step cannot be recommended, as a clause; None if this run shows that it is possible."""
    if not comparable(run, steady):
        return "fewer than two analysed steps, so their kernels cannot be compared: record more steps"
    sequences = kernels_by_step(run)
    if any(len(s) != len(sequences[0]) or (s != sequences[0]).any() for s in sequences):
        return "the kernels differ between steps (changing shapes or control flow)"
    waits = len(find_syncs(run, steady).calls)
    if waits:
        per_step = counted(steady.per_step(waits), "synchronisation")
        return f"{per_step} per step must be removed first: a CUDA graph cannot contain one (see device-sync)"
    return None


def obstacle_to_compile(run: Run) -> str | None:
    """Why torch.compile cannot be recommended, as a clause; None if nothing is known against it."""
    if is_differentiated(run):
        return "torch.compile cannot differentiate a backward pass again, and this run does (create_graph=True)"
    return None


@once
def kernels_by_step(run: Run) -> list[Rows]:
    """Names and grids of the kernels of each steady step in order, as one number per kernel."""
    edges = zip(run.steps.start[run.steps.steady], run.steps.end[run.steps.steady], strict=True)
    return [_kernels(run, int(start), int(end)) for start, end in edges]


def is_graphed(run: Run) -> bool:
    """Whether graphs are launched already."""
    return len(ids_matching(run.trace, GRAPH_LAUNCH)) > 0


def is_compiled(run: Run) -> bool:
    """Whether torch.compile is at work, by its spans and kernels or by what a capture saw."""
    compiled = run.facts.compile if run.facts is not None else None
    return len(ids_matching(run.trace, _COMPILED)) > 0 or bool(compiled and compiled.compiled_modules)


def _kernels(run: Run, start: int, end: int) -> Rows:
    activity, events = run.activity, run.trace.events
    row = activity.row[(activity.start >= start) & (activity.start < end)]
    row = row[~np.isin(events.name[row], ids_matching(run.trace, _COPY))]
    order = np.lexsort((events.start[row], events.track[row]))
    grids = {grid: i for i, grid in enumerate(dict.fromkeys(a.grid for a in run.trace.args))}
    of_args = np.array([grids[a.grid] for a in run.trace.args] + [-1], np.int64)
    return events.name[row][order].astype(np.int64) * (len(grids) + 2) + of_args[events.args[row][order]]
