"""Python's garbage collector runs during the steps.

What it measures
    The garbage collections that mfu_doctor.profile() recorded (gc.callbacks) in the analysed steps, and which line asked for them
    (Python itself collects only above its thresholds).

Why it costs
    A full collection visits every container object of the process. If Python objects hold a large data set, it takes tens of
    milliseconds. The main thread launches nothing in this time.

How the gain is predicted
    Of the collections that one line asks for, if one asks for most, else of all. Low: half of their time is removed; if a line
    asks in more than every fifth step, all but one in ten steps.
    Mid and high: all of it is removed.
    Replay gives the new step time: a collection during which the GPU is busy saves nothing.

How to fix
    If a line of the program calls gc.collect() in each step, remove it, or call it every hundred steps. Otherwise gc.collect();
    gc.freeze() after the model and the data are built: these objects are then never visited again.

When it is wrong
    The rule is wrong if the program makes many reference cycles per step: then it needs the collections, and memory grows until
    the next one.

References
    https://docs.python.org/3/library/gc.html#gc.freeze
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from mfu_doctor.analysis.evidence.steady_steps import Steady, steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.quantities import counted, share, time_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_OWN = "gc.collect(); gc.freeze()  # once, after building model and data"
_ASKED = "if step % 100 == 0: gc.collect()  # more rarely than now, or never"
_SELDOM = 0.1  # collections in a step, if every tenth one has one


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
    asker = _asker(run, steady)
    every = run.host.gc if asker is None else _asked_by(run, asker)
    pauses = every & steady.host
    spent = steady.host_ns(pauses)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    times = steady.per_step(pauses.count)
    longest = float(pauses.lengths.max())
    often = asker is not None and times > 2 * _SELDOM
    gone = (ScaleHost(every, 0.0),)
    return Finding(
        summary=f"Python's garbage collector takes {share(spent, steady.step_ns)} of the mean step",
        fix=_OWN if asker is None else _ASKED,
        confidence="measured",
        decides=Ends(
            low="every tenth step collects" if often else "it collects half as often",
            high="nothing is collected in the steps",
        ),
        change=Change((ScaleHost(every, _SELDOM / times if often else 0.5),), gone, gone),
        place=asker,
        detail=f"{counted(times, 'collection')} per step, the longest takes {time_of(longest)}",
        evidence=(
            shown("collections", times, "per step"),
            shown("time", seconds(spent), "s"),
            shown("longest", seconds(longest), "s"),
        ),
    )


def _asker(run: Run, steady: Steady) -> str | None:
    """The line that asks for most of the time of the collections in the steps; None if Python itself or many lines do."""
    spent: Counter[str | None] = Counter()
    for pause in run.facts.gc_pauses if run.facts is not None else ():
        if steady.host.contains(np.array([pause.start_ns - run.trace.origin_ns])).item():
            spent[pause.place] += pause.duration_ns
    place, most = max(spent.items(), key=lambda item: item[1], default=(None, 0))
    return place if 2 * most > spent.total() else None


def _asked_by(run: Run, place: str) -> Intervals:
    """The collections that this line asked for."""
    mine = [one for one in (run.facts.gc_pauses if run.facts is not None else ()) if one.place == place]
    start = np.array([one.start_ns - run.trace.origin_ns for one in mine], np.int64)
    return union(start, start + np.array([one.duration_ns for one in mine], np.int64)) & run.host.gc
