"""Other processes used the cores while this run was recorded, so its times are not its own.

What it measures
    CPU time of all other processes during the un-profiled steps, against the cores that this process may run on.

Why it costs
    It may cost nothing, or most of the step. What is certain is that a run recorded so says little about itself: operators
    look slow that only waited for a core, and every prediction inherits that.

How the gain is predicted
    It is not: this is a caution. What a quieter machine could be worth at most is told by cpu-contention.

How to fix
    Record again alone on the machine before acting on any number of the report.

When it is wrong
    The other processes may be this training's own helpers, and will be there in every run.

References
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.contention import contention_of, host_is_critical
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import significant
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need


@rule("busy-machine", "TR009", "other processes were busy while this was recorded", needs=(Need.FACTS,))
def busy_machine(run: Run) -> Outcome:
    """Judge what other processes did meanwhile."""
    found = contention_of(run)
    if isinstance(found, str):
        return Skip(found)
    if not found.is_contended or not host_is_critical(run):
        return None
    return Finding(
        summary=f"Other processes used {significant(found.others, 2)} of the {found.cores} cores during the "
        "un-profiled steps: the times may include waiting for them",
        fix="# record again alone on the machine before acting on these numbers",
        evidence=(
            shown("other processes", found.others, "cores"),
            shown("this process", found.own, "cores"),
            shown("usable cores", found.cores, "count"),
        ),
        effort="setting",
        confidence="measured",
    )
