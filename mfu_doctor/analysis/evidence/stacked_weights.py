"""What an optimizer that goes from tensor to tensor takes less once the weights of small networks are stacked.

The weights of all networks of a loop become one tensor for each weight of one network. Reading and writing them stays.
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.loop_kinds import SmallOps
from mfu_doctor.analysis.evidence.optimizer import FOREACH, SINGLE, optimizer_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Edit, ScaleDevice, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.units import NS_PER_S


def fewer_tensors(run: Run, loops: list[SmallOps]) -> tuple[Edit, ...]:
    """The optimizer over as many tensors as are left; nothing where it takes all of them at once, or if they are not counted."""
    steady = steady_of(run)
    optimizer = optimizer_of(run, steady)
    if optimizer is None or not optimizer.tensors or optimizer.bytes is None or not run.peaks.bandwidth:
        return ()
    if optimizer.style != SINGLE and not (optimizer.style == FOREACH and run.is_cpu):
        return ()
    inside = [found for found in loops if steady.host.contains(found.inside.start[:1])[0]]
    less = steady.per_step(sum((found.weights or 0) * (1.0 - 1.0 / found.loop.rounds) for found in inside))
    spent = steady.per_step(float(run.unrecorded_ns[optimizer.entries & steady.entries(run)].sum()))
    moving = optimizer.bytes / run.peaks.bandwidth * NS_PER_S / max(spent, 1.0)
    left = min(max(1.0 - less / optimizer.tensors, moving, 0.0), 1.0)
    where = optimizer.spans - run.activity.busy() if run.is_cpu else optimizer.spans
    return ScaleDevice(optimizer.rows, np.full(len(optimizer.rows), left)), ScaleHost(where, left)
