"""Other processes used the cores while this run was recorded, so its times are not its own.

What it measures
    CPU time of all other processes during the un-profiled steps, against the cores that this process may run on.

Why it costs
    It may cost nothing, or most of the step. What is certain is that a run recorded so says little about itself: operators
    look slow that only waited for a core, and every prediction inherits that.

How the gain is predicted
    It is not: this is a caution. Whether a thread that could run had to wait for a core is in no trace.

How to fix
    Record again alone on the machine before acting on any number of the report, or give each process cores of its own (taskset,
    numactl, the scheduler's --cpus-per-task).

When it is wrong
    The other processes may be this training's own helpers, and will be there in every run. Others that crowd onto the cores of a
    pinned process while the rest of the machine is idle are not seen.

References
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.contention import contention_of, host_is_critical
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number, significant
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need


@rule(
    "busy-machine",
    "TR009",
    "other processes were busy while this was recorded",
    needs=(Need.FACTS,),
    also=("affinity", "cpu-load"),
)
def busy_machine(run: Run) -> Outcome:
    """Judge what other processes did meanwhile."""
    found = contention_of(run)
    if isinstance(found, str):
        return Skip(found)
    if not found.is_contended or not host_is_critical(run):
        return None
    load = run.facts.host.load_average if run.facts is not None and run.facts.host is not None else None
    return Finding(
        summary=f"Other processes used {significant(found.others, 2)} of the {number(found.cores)} cores during the "
        "un-profiled steps: the times may include waiting for them",
        fix="# record again alone on the machine before acting on these numbers",
        evidence=(
            shown("other processes", found.others, "cores"),
            shown("this process", found.own, "cores"),
            shown("usable cores", found.cores, "count"),
            *((shown("load average", load, "processes"),) if load is not None else ()),
        ),
        effort="setting",
        confidence="measured",
    )
