"""The profiler itself made the step longer, mostly on the CPU.

What it measures
    The median step with the profiler against the median step without it. mfu_doctor.profile() times steps before it starts the
    profiler. For other traces: whether with_stack or profile_memory was used and the CPU causes much of the idle time.

Why it costs
    Recording takes the CPU about a microsecond per event, and several with stacks. The GPU does not become slower. A run that is
    limited by the GPU is therefore recorded correctly, but a run that is almost host-bound looks host-bound in the trace.

How the gain is predicted
    No gain is predicted. This is a caution: it shows how reliable the other numbers are.

How to fix
    Use mfu_doctor.profile(): it times steps without the profiler and records stacks in a separate window. Or record without
    with_stack and profile_memory.

When it is wrong
    The rule is wrong if the steps differ between the two windows for another reason.

References
    https://pytorch.org/docs/stable/profiler.html
"""

from __future__ import annotations

import statistics

from mfu_doctor.analysis.evidence.steady_steps import part_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import share, time_of
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.units import NS_PER_S

# Below this, steps differ by as much anyway, and the difference is not reported.
INFLATED = 0.05
# Without un-profiled times: idle time of the host above this share is in doubt if heavy options were recorded.
IN_DOUBT = 0.05


@rule("profiler-inflation", "TR003", "the profiler slowed the step", also=("profiler-overhead",))
def profiler_inflation(run: Run) -> Outcome:
    """Compare profiled and un-profiled steps, or look at what was recorded."""
    facts = run.facts
    if facts is not None and facts.beside_s and facts.profiled_steps_s:
        middle = min if run.mean_step.all_long else statistics.median
        return _measured(
            middle(facts.beside_s), middle(facts.profiled_steps_s), "medians" if middle is not min else "quickest"
        )
    return _suspected(run)


def _measured(plain: float, profiled: float, of: str) -> Outcome:
    if profiled <= plain * (1 + INFLATED):
        return None
    return Finding(
        summary=f"The profiler slowed the step from {time_of(plain * NS_PER_S)} to {time_of(profiled * NS_PER_S)} ({of}, "
        f"{share(profiled - plain, plain)}); percentages are of the profiled step",
        fix="mfu_doctor.profile()  # the step time and MFU are already those without the profiler",
        evidence=(shown("step without profiler", plain, "s"), shown("step with profiler", profiled, "s")),
        effort="setting",
        confidence="measured",
    )


def _suspected(run: Run) -> Outcome:
    """Another profiler's trace: options that slow the host two- to threefold, and idle time that the host explains."""
    recorded = run.recorded.recorded
    heavy = [option for option, on in (("with_stack", recorded.stacks), ("profile_memory", recorded.memory)) if on]
    idle = part_of(run, "launch", "python")
    if not heavy or idle.mean_ns <= IN_DOUBT * run.replay.measured_ns:
        return None
    return Finding(
        summary=f"The trace was recorded with {' and '.join(heavy)}, which slows the CPU: idle time is an upper bound",
        fix="torch.profiler.profile(with_stack=False, profile_memory=False, ...)  # record stacks in a second run",
        detail=f"launches and Python cause idle time: {idle.of_step}",
        evidence=(shown("idle time from launches and Python", idle.mean_ns / NS_PER_S, "s"),),
        effort="setting",
        confidence="hint",
    )
