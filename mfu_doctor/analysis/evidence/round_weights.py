"""Whether the rounds of a loop that calls backward in each of them have weights of their own, or share them.

Shared weights get a gradient in the first round, and every later round adds to it. Where each round's gradients are taken away
before the next one, nothing is added; but then more gradients are made than the optimizer has weights.
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.attribution import calls_of
from mfu_doctor.analysis.evidence.backward_passes import passes_of
from mfu_doctor.analysis.evidence.optimizer import optimizer_of
from mfu_doctor.analysis.evidence.python_loops import Loop
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, steady_of
from mfu_doctor.analysis.names.autograd import ACCUMULATE_CALL
from mfu_doctor.analysis.run import Run


def weights_of_rounds(run: Run, loop: Loop) -> int | None:
    """How many weights get their gradients in this loop, if each round has its own; 0 if they share them, None: nothing tells."""
    handed = int(np.count_nonzero(_within(run, loop, calls_of(run, ACCUMULATE_CALL))))
    optimizer = optimizer_of(run, steady_of(run))
    known = optimizer.tensors if optimizer is not None else None
    if handed < loop.rounds or (known is not None and known < handed):
        return 0
    passes = passes_of(run)
    if passes is None:
        return None
    inside = _within(run, loop, passes.nodes)
    fresh, added = (bool((inside & which).any()) for which in (passes.fresh, passes.added))
    if fresh and added:
        return 0
    return handed if fresh else None


def _within(run: Run, loop: Loop, rows: Rows) -> Mask:
    start = run.trace.events.start[rows]
    found: Mask = (start >= loop.start) & (start < loop.end)
    return found
