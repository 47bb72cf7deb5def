"""A Python loop handles a tensor element by element. Each iteration runs several operators.

What it measures
    A sequence of one to four operators that repeats at least twenty times on the main thread. It contains an indexing operator
    and no matmul. The backward nodes of these operators are included.

Why it costs
    One vectorised operator could do the work of all iterations. And if x needs a gradient, each x[i] writes a tensor as large as
    x in backward.

How the gain is predicted
    Low: 25 % of the CPU time and 50 % of the GPU time of the loop and its backward remain.
    Mid: 5 % and 10 % remain.
    High: one iteration remains.
    At least one iteration always remains. In a CPU-only run, operator time counts as GPU time. A torch.stack or torch.cat after
    the loop is part of it, and so is freeing the tensors that it joins: the gap after it counts, but not longer than all gaps
    inside the loop together.

How to fix
    Index with a tensor, or use torch.stack, torch.gather, unfold or vmap instead of the loop.

When it is wrong
    The rule is wrong for recurrences, in which each iteration needs the one before it. Loops that contain a matmul are excluded
    for this reason.

References
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.attribution import scaled, work_in
from mfu_doctor.analysis.evidence.python_loops import Loop, element_loops, time_of_loops
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.units import seconds

# Parts of the host time and of the device time that remain. A vectorised operator needs the host once, but still handles
# all data on the device.
_LOW, _MID = (0.25, 0.5), (0.05, 0.1)


@rule("tensor-loop", "HO009", "Python loops over the elements of a tensor", also=("for-loop-indexing",))
def tensor_loop(run: Run) -> Outcome:
    """Look for the same few indexing operators, repeated many times."""
    steady = steady_of(run)
    loops = element_loops(run)
    inside = [loop for loop in loops if steady.host.contains(np.array([loop.start]))[0]]
    if not inside:
        return None
    where = time_of_loops(run, loops)
    rounds = sum(loop.rounds for loop in loops) / len(loops)
    once = 1.0 / rounds
    spent = steady.per_step(float((where & steady.host).total_ns))
    mask = work_in(run, where)
    host = where - run.activity.busy() if run.is_cpu else where
    longest: Loop = max(inside, key=lambda loop: loop.rounds)
    return Finding(
        summary=f"Loops over tensors take {steady.share(spent)} of the step on the CPU: one repeats "
        f"{', '.join(n.removeprefix('aten::') for n in longest.names)} {number(longest.rounds)} times",
        fix="y = x[indices]  # one indexing operation instead of a loop over x[i]",
        change=Change(
            (ScaleHost(host, max(once, _LOW[0])), *scaled(run, mask, max(once, _LOW[1]))),
            (ScaleHost(host, max(once, _MID[0])), *scaled(run, mask, max(once, _MID[1]))),
            (ScaleHost(host, once), *scaled(run, mask, once)),
        ),
        evidence=(
            shown("loops", steady.per_step(len(inside)), "per step"),
            shown("iterations of the longest loop", longest.rounds, "count"),
            shown("CPU time", seconds(spent), "s"),
        ),
        place=run.places(np.array([longest.row]))[0],
        effort="refactor",
    )
