"""A Python loop handles a tensor element by element, and pays for an operator each time.

What it measures
    The same one to four operators, an indexing one among them and no matrix product, at least twenty times in a row on the
    training thread, and the nodes of backward that belong to them.

Why it costs
    Each round costs several operators for work that a single vectorised one does at once, and each x[i] that needs a gradient
    writes one as large as x in backward.

How the gain is predicted
    Of the loop and its backward stay a quarter of the host time and half of the device time (low), a twentieth and a tenth, or
    one round where that is more (mid), one round (high). Where stack or cat joins what the rounds made, it belongs to the loop,
    and so does freeing the parts: the pause after it, as long as the loop spent between its operators at most.

How to fix
    Index with a tensor, use torch.stack, torch.gather, unfold or vmap instead of the loop.

When it is wrong
    Recurrences in which each round needs the one before it; loops with a matrix product in them are left out for that.

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

# What stays of the host's and the device's time: vectorised, one round is left of the host's and the data of the device's.
_LOW, _MID = (0.25, 0.5), (0.05, 0.1)


@rule("tensor-loop", "HO009", "Python loops over the elements of a tensor", also=("for-loop-indexing",))
def tensor_loop(run: Run) -> Outcome:
    """Look for the same few indexing operators over and over."""
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
        summary=f"A loop repeats {', '.join(n.removeprefix('aten::') for n in longest.names)} {number(longest.rounds)} times, "
        f"{steady.share(spent)} of the step on the host",
        fix="y = x[indices]  # one indexing operation instead of a loop over x[i]",
        change=Change(
            (ScaleHost(host, max(once, _LOW[0])), *scaled(run, mask, max(once, _LOW[1]))),
            (ScaleHost(host, max(once, _MID[0])), *scaled(run, mask, max(once, _MID[1]))),
            (ScaleHost(host, once), *scaled(run, mask, once)),
        ),
        evidence=(
            shown("loops", steady.per_step(len(inside)), "per step"),
            shown("rounds", longest.rounds, "count"),
            shown("host time", seconds(spent), "s"),
        ),
        place=run.places(np.array([longest.row]))[0],
        effort="refactor",
    )
