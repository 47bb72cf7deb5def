"""Python's garbage collector runs during the steps.

What it measures
    The collections that a live capture timed (gc.callbacks) inside the steady steps.

Why it costs
    A full collection walks every container object of the process. With a large data set held in Python objects that takes tens of
    milliseconds, in which the training thread issues nothing.

How the gain is predicted
    The time of the collections vanishes from the host (mid and high), half of it at the low end. Replay gives the step, so a
    collection that hides behind a busy device is worth nothing.

How to fix
    gc.collect(); gc.freeze() once the model and the data are built, so that they are never walked again. Where the program
    calls gc.collect() in each step, call it every few hundred steps instead.

When it is wrong
    A program that makes many reference cycles per step needs collections; their memory then grows until the next one.

References
    https://docs.python.org/3/library/gc.html#gc.freeze
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, share, time_of
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds


@rule(
    "gc-pause", "HO004", "the garbage collector stops the step", needs=(Need.FACTS,), also=("gc", "garbage-collection")
)
def gc_pause(run: Run) -> Outcome:
    """Judge the time of collections."""
    steady = steady_of(run)
    pauses = run.host.gc & steady.host
    spent = steady.per_step(float(pauses.total_ns))
    if spent < WORTH_SHARE * steady.mean_ns:
        return None
    times = steady.per_step(pauses.count)
    longest = float(pauses.lengths.max())
    gone = (ScaleHost(run.host.gc, 0.0),)
    return Finding(
        summary=f"Python's garbage collector takes {share(spent, steady.mean_ns)} of the mean step",
        fix="gc.collect(); gc.freeze()  # after building model and data; then gc.collect() every N steps outside the step",
        change=Change((ScaleHost(run.host.gc, 0.5),), gone, gone),
        detail=f"{counted(times, 'collection')} a step, the longest {time_of(longest)}",
        evidence=(
            shown("collections", times, "per step"),
            shown("time", seconds(spent), "s"),
            shown("longest", seconds(longest), "s"),
        ),
    )
