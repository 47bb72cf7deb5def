"""Other processes used the CPU during the recording, so the measured times are not reliable.

What it measures
    CPU time of all other processes during the steps without the profiler, against the cores that this process may use. And how
    long the training thread waited for a core meanwhile, which Linux counts: cores that nobody else wanted cost nothing. How much
    longer a step is for it is not told here: threads of a pool wait too, and operators that share them are longer by more.

Why it costs
    The effect can be zero or most of the step. Operators that waited for a core look slow, and every prediction from this trace
    has the same error.

How the gain is predicted
    No gain is predicted. This is a caution: the program is not what to change.

How to fix
    Record again without other processes on the machine before you use the numbers of the report. Or give each process its own
    cores (taskset, numactl, --cpus-per-task of the scheduler).

When it is wrong
    The rule is wrong if the other processes belong to this training: then they are there in every run. It does not detect other
    processes on the cores of a pinned process if the rest of the machine is idle.

References
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.contention import Contention, contention_of, host_is_critical
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number, percent, significant
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need


@rule(
    "busy-machine",
    "TR009",
    "other processes used the CPU during the recording",
    needs=(Need.FACTS,),
    also=("affinity", "cpu-contention", "cpu-load", "numa"),
)
def busy_machine(run: Run) -> Outcome:
    """Judge how much CPU time other processes used."""
    found = contention_of(run)
    if isinstance(found, str):
        return Skip(found)
    if not found.is_contended or not host_is_critical(run):
        return None
    load = run.facts.host.load_average if run.facts is not None and run.facts.host is not None else None
    return Finding(
        summary=f"Other processes used {significant(found.others, 2)} of the {number(found.cores)} cores during the "
        f"steps without the profiler: {_effect(found)}",
        fix="# record again without other processes",
        evidence=(
            shown("other processes", found.others, "cores"),
            shown("this process", found.own, "cores"),
            shown("usable cores", found.cores, "count"),
            *((shown("waiting for a core", found.waited, "share"),) if found.waited is not None else ()),
            *((shown("load average", load, "processes"),) if load is not None else ()),
        ),
        effort="setting",
        confidence="measured",
        spoils="figures",
    )


def _effect(found: Contention) -> str:
    if found.waited is None or found.longer is None:
        return "the times may include waiting for a core"
    part = ", part of it for them" if found.longer < found.waited else ""
    return f"the training thread waited for a core {percent(found.waited, 0)} of the time{part}"
