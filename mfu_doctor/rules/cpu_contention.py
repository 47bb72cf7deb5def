"""Other processes take CPU time that the training thread or its workers need.

What it measures
    CPU time of this process and of all others during the timed steps, against the cores that this process may use.

Why it costs
    A preempted training thread launches nothing; on a CPU-only run every operator waits for its cores.

How the gain is predicted
    Nothing is promised at the low end. At the high end the host's time in the steps shrinks by the share of the cores that others
    took; the mid end is half of that. Replay gives the step, so a busy device hides it.

How to fix
    Run alone on the machine, or pin processes to cores of their own (taskset, numactl, the scheduler's --cpus-per-task).

When it is wrong
    The machine's other work may be this training's own helpers. Time that others use on cores which training would have left idle
    costs nothing.

References
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html
"""

from __future__ import annotations

from mfu_doctor.analysis.edits import Change, Edit, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.steady import steady_of
from mfu_doctor.phrasing import share
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown

# Others using less than this share of the cores leave enough to spare.
SEEN_SHARE = 0.25
# Cores are contended for where all processes together use this share of them.
BUSY_SHARE = 0.9


@rule("cpu-contention", "HO006", "other processes use the cores", needs=("facts",))
def cpu_contention(run: Run) -> Outcome:
    """Judge the load of the machine."""
    host = run.facts.host if run.facts is not None else None
    if host is None or host.cpu_share is None or host.other_cpu_share is None:
        return Skip("CPU times of this and other processes were not captured")
    known = [c for c in (host.affinity, host.cgroup_cpus, host.cores) if c is not None]
    if not known:
        return Skip("the number of usable cores was not captured")
    cores = float(min(known))
    others = host.other_cpu_share / cores
    if others < SEEN_SHARE or host.cpu_share + host.other_cpu_share < BUSY_SHARE * cores:
        return None
    taken = min(others, 1.0 - SEEN_SHARE)
    return Finding(
        summary=f"Other processes use {share(others, 1.0)} of the {cores:g} cores",
        fix="taskset -c 0-N python train.py  # cores that no other process uses",
        change=Change(_scaled(run, 1.0), _scaled(run, 1.0 - taken / 2), _scaled(run, 1.0 - taken)),
        evidence=(
            shown("this process", host.cpu_share, "cores"),
            shown("other processes", host.other_cpu_share, "cores"),
            shown("usable cores", cores, "count"),
        ),
        effort="setting",
        confidence="hint",
    )


def _scaled(run: Run, factor: float) -> tuple[Edit, ...]:
    """The host's time in the steps, operators of a CPU-only run included, times a factor."""
    return (ScaleHost(steady_of(run).host, factor),)
