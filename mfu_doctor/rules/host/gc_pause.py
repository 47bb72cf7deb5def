"""Python's garbage collector runs during the steps.

What it measures
    The garbage collections that mfu_doctor.profile() recorded (gc.callbacks) in the analysed steps.

Why it costs
    A full collection visits every container object of the process. If Python objects hold a large data set, it takes tens of
    milliseconds. The main thread launches nothing in this time.

How the gain is predicted
    Low: half of the time of the collections is removed.
    Mid and high: all of it is removed.
    Replay gives the new step time: a collection during which the GPU is busy saves nothing.

How to fix
    gc.collect(); gc.freeze() after the model and the data are built: these objects are then never visited again. If the program
    calls gc.collect() in each step, call it every few hundred steps instead.

When it is wrong
    The rule is wrong if the program makes many reference cycles per step: then it needs the collections, and memory grows until
    the next one.

References
    https://docs.python.org/3/library/gc.html#gc.freeze
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, share, time_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds


@rule(
    "gc-pause",
    "HO004",
    "the garbage collector runs in the step",
    needs=(Need.FACTS,),
    also=("gc", "garbage-collection"),
)
def gc_pause(run: Run) -> Outcome:
    """Judge the time of collections."""
    steady = steady_of(run)
    pauses = run.host.gc & steady.host
    spent = steady.host_ns(pauses)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    times = steady.per_step(pauses.count)
    longest = float(pauses.lengths.max())
    gone = (ScaleHost(run.host.gc, 0.0),)
    return Finding(
        summary=f"Python's garbage collector takes {share(spent, steady.step_ns)} of the mean step",
        fix="gc.collect(); gc.freeze()  # after building model and data; then gc.collect() every N steps outside the step",
        confidence="measured",
        decides=Ends(low="it collects half as often", high="nothing is collected in the steps"),
        change=Change((ScaleHost(run.host.gc, 0.5),), gone, gone),
        detail=f"{counted(times, 'collection')} per step, the longest takes {time_of(longest)}",
        evidence=(
            shown("collections", times, "per step"),
            shown("time", seconds(spent), "s"),
            shown("longest", seconds(longest), "s"),
        ),
    )
