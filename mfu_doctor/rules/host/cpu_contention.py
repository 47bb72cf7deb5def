"""Other processes take CPU time that the training thread or its workers need.

What it measures
    CPU time of this process and of all others during the timed steps, against the cores that this process may run on. Where it
    is pinned to some of the machine's cores, only the others' time that the remaining cores cannot have held counts. On a GPU run
    the device must wait for the host or for data.

Why it costs
    A preempted training thread launches nothing; on a CPU-only run every operator waits for its cores.

How the gain is predicted
    Load is not waiting: whether a thread that could run was kept from a core is in no trace, so nothing is promised at the low
    end and the advice is withheld with what it could be worth. At the high end the host's time in the steps shrinks by the share
    of the cores that others took; the mid end is half of that. Replay gives the step, so a busy device hides it.

How to fix
    Run alone on the machine, or pin processes to cores of their own (taskset, numactl, the scheduler's --cpus-per-task).

When it is wrong
    The machine's other work may be this training's own helpers. Time that others use on cores which training would have left idle
    costs nothing. Others that crowd onto the cores of a pinned process while the rest of the machine is idle are not seen.

References
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.contention import contention_of, host_is_critical
from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.intervals import Intervals
from mfu_doctor.quantities import share, time_of
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need

# A fair scheduler leaves this process at least a part of its cores; the high end takes no more than this from the host's time.
_MOST_TAKEN = 0.75


@rule("cpu-contention", "HO006", "other processes use the cores", needs=(Need.FACTS,), also=("affinity", "numa"))
def cpu_contention(run: Run) -> Outcome:
    """Judge the load of the machine."""
    contention = contention_of(run)
    if isinstance(contention, str):
        return Skip(contention)
    if not contention.is_contended or not host_is_critical(run):
        return None
    cores, others = contention.cores, contention.others
    load = run.facts.host.load_average if run.facts is not None and run.facts.host is not None else None
    taken = min(others / cores, _MOST_TAKEN)
    return Finding(
        summary=f"Other processes use {share(others, cores)} of the {cores} cores",
        fix="ps -eo pcpu,pid,args --sort=-pcpu | head  # end what need not run here, or keep it off these cores: taskset -cp",
        change=Change(_scaled(run, 1.0), _scaled(run, 1.0 - taken / 2), _scaled(run, 1.0 - taken)),
        evidence=(
            shown("this process", contention.own, "cores"),
            shown("other processes", others, "cores"),
            shown("usable cores", cores, "count"),
            *((shown("load average", load, "processes"),) if load is not None else ()),
        ),
        effort="setting",
        confidence="hint",
        withhold=_unproved(run, _scaled(run, 1.0 - taken)),
    )


def _unproved(run: Run, alone: tuple[Edit, ...]) -> str:
    """Load is not waiting: a trace does not tell when a thread that could run was kept from a core, so this stays a hint."""
    most = run.replay.measured_ns - run.replay.step_ns(alone)
    return (
        f"how much of it this run waited for is unknown: from nothing to {time_of(most)} a step; time it alone to know"
    )


def _scaled(run: Run, factor: float) -> tuple[Edit, ...]:
    """The host's time in the steps, operators of a CPU-only run included, times a factor.

    From the first step's start on the host to the last one's end on the device, which a launch of the next step sets.
    """
    steps = run.steps
    first, last = steps.host_start.min(keepdims=True), np.maximum(steps.host_end, steps.end).max(keepdims=True)
    return (ScaleHost(Intervals(first, last), factor),)
