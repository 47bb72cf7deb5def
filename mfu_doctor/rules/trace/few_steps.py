"""There are too few analysed steps for a reliable median.

What it measures
    The number of recorded steps that are analysed. Left out are warm-up steps (the first step, and long steps directly after it)
    and disturbed steps (much longer than every step without the profiler).

Why it costs
    If only one step is analysed, it may be an unusually long one, and nothing in the trace shows it.

How the gain is predicted
    No gain is predicted. This is a caution: it shows how reliable the other numbers are.

How to fix
    Record at least four steps. With torch.profiler, call prof.step() once per iteration so that the trace has step events; with
    mfu-doctor, let the program make enough steps, or record more of them (--active N). Where an epoch is shorter than what is
    recorded, name the first step to record (--at-step N). Steps with too many events are not recorded again and again.

When it is wrong
    The rule is wrong if a step takes minutes and was recorded only once for this reason.

References
    https://pytorch.org/docs/stable/profiler.html#torch.profiler.schedule
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.recorders import again_with, record_again
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.steps import WHOLE
from mfu_doctor.analysis.views.whole_trace import left_out
from mfu_doctor.facts import TOO_LARGE
from mfu_doctor.quantities import counted, time_of
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown

# A median of three values ignores one long one.
ENOUGH = 3
_PROPOSED = 6  # steps to record
# Less than this share of the step before and after it is not worth a word: a profiler starts and stops.
_TOLD = 0.1


@rule("few-steps", "TR005", "too few analysed steps")
def few_steps(run: Run) -> Outcome:
    """Count the steady steps."""
    count = int(run.steps.steady.sum())
    if count >= ENOUGH:
        return None
    notes = run.facts.notes if run.facts is not None else ()
    large = next((note for note in notes if TOO_LARGE in note), None)
    return Finding(
        summary=_whole_trace(run)
        if run.steps.source == WHOLE
        else f"Only {counted(count, 'analysed step')}{_alone(count)}{f'; {large}' if large else ''}",
        fix="" if large else _remedy(run),
        detail=run.steps.note or "the step time may be an outlier",
        evidence=(shown("analysed steps", count, "count"), shown("steps from", run.steps.source)),
        effort="setting",
        confidence="measured",
        spoils="figures",
    )


def _alone(count: int) -> str:
    return ", which need not be like the others" if count == 1 else ""


def _remedy(run: Run) -> str:
    """Record more steps. A program that ended before all were recorded has to make more.

    Where it made enough of them in epochs that are shorter than the recording, a step has to be named at which it begins.
    """
    facts = run.facts
    if facts is None or facts.asked is None or facts.recorded is None:
        return record_again(run, active=_PROPOSED)
    asked, done = facts.asked, facts.recorded
    if asked.at_step is not None or not asked.active > ENOUGH >= done.active:
        return record_again(run, active=_PROPOSED)
    first = asked.skip + asked.timed + asked.warmup
    every = first + asked.active + asked.shapes
    made = facts.whole_run.steps if facts.whole_run is not None else 0
    if made < every:
        return f"# let the program make more steps: with {every} or more, {asked.active} are recorded"
    return again_with(facts, at_step=first)


def _whole_trace(run: Run) -> str:
    start, end = int(run.steps.start[0]), int(run.steps.end[-1])
    before, after = left_out(run.trace, start, end)
    if before + after < _TOLD * (end - start):
        return "The trace has no steps: all of it is analysed as one step"
    work = "work of operators" if run.is_cpu else "GPU work"
    sides = " and ".join(f"{time_of(ns)} {side}" for ns, side in ((before, "before"), (after, "after")) if ns)
    return f"The trace has no steps: all {work} is analysed as one step; {sides} it are left out"
