"""The profiler itself made the step longer, mostly on the host.

What it measures
    The median step with the profiler against the median step without it, which a live capture times before it records. For a
    trace of unknown origin: whether stacks or memory events were recorded while the host explains much of the idle time.

Why it costs
    Recording costs the host about a microsecond per event, several with stacks. The device is not slowed, so a run that is
    bound by the device looks right and a run near the edge looks host-bound.

How the gain is predicted
    There is no gain: it is a caution about the trace, and it says what the other numbers are worth.

How to fix
    Use mfu_doctor.profile(), which times steps without the profiler and records stacks in a window of their own; or record
    without with_stack and profile_memory.

When it is wrong
    Steps may differ for other reasons between the two windows.

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

# A profiled step this much longer than an un-profiled one is worth a sentence; below, steps differ by as much anyway.
INFLATED = 0.05
# Without un-profiled times: host idle above this share of the step is in doubt when heavy options were recorded.
IN_DOUBT = 0.05


@rule("profiler-inflation", "TR003", "the profiler slowed the step", also=("profiler-overhead",))
def profiler_inflation(run: Run) -> Outcome:
    """Compare profiled and un-profiled steps, or look at what was recorded."""
    facts = run.facts
    if facts is not None and facts.timed_steps_s and facts.profiled_steps_s:
        return _measured(statistics.median(facts.timed_steps_s), statistics.median(facts.profiled_steps_s))
    return _suspected(run)


def _measured(plain: float, profiled: float) -> Outcome:
    if profiled <= plain * (1 + INFLATED):
        return None
    return Finding(
        summary=f"The profiler slowed the step by {share(profiled - plain, plain)}; shares are of the profiled step",
        fix="mfu_doctor.profile()  # the step time and MFU are already those without the profiler",
        detail=f"{time_of(plain * NS_PER_S)} without it, {time_of(profiled * NS_PER_S)} with it",
        evidence=(shown("step without profiler", plain, "s"), shown("step with profiler", profiled, "s")),
        effort="setting",
        confidence="measured",
    )


def _suspected(run: Run) -> Outcome:
    """A foreign trace: options that slow the host two- to threefold, and idle time that the host explains."""
    recorded = run.recorded.recorded
    heavy = [option for option, on in (("with_stack", recorded.stacks), ("profile_memory", recorded.memory)) if on]
    idle = part_of(run, "launch", "python")
    if not heavy or idle.mean_ns <= IN_DOUBT * run.replay.measured_ns:
        return None
    return Finding(
        summary=f"Recorded with {' and '.join(heavy)}, which slows the host: its idle time is an upper bound",
        fix="torch.profiler.profile(with_stack=False, profile_memory=False, ...)  # for times; stacks in a second run",
        detail=f"host-bound idle is {idle.of_step} in this recording",
        evidence=(shown("host-bound idle", idle.stated_ns / NS_PER_S, "s"),),
        effort="setting",
        confidence="hint",
    )
