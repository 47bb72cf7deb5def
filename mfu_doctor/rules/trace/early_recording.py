"""The recorded steps are not like the rest of the run: they are of its beginning.

What it measures
    Steps without the profiler just before the recording against those of the whole run after its beginning; and how long a step
    waits for data in both. mfu_doctor.profile() and mfu-doctor run time steps until the block ends.

Why it costs
    Nothing. But a dataset that is cached in its first pass, a memory that fills up, or a clock that falls are not seen in a few
    steps at the start. What they show is then not what most of the run is like.

How the gain is predicted
    No gain is predicted. This is a caution. The stated step is that of the run, and savings are of this step. A wait for data
    that is over after the first pass is taken out of the recording before savings are predicted.

How to fix
    Record later: mfu-doctor run --skip N, or profile(skip=N), with half of the run's steps for N.

When it is wrong
    The rule is wrong if the machine did other work at one of both times. On a GPU the profiler can stay attached and slow later
    steps by 10 to 20 %.

References
    https://github.com/pytorch/pytorch/issues/144455 (the profiler stays attached)
"""

from __future__ import annotations

import statistics

from mfu_doctor.analysis.evidence.recorders import again_with
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import duration, time_of
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import NS_PER_S

# The same program on the same machine differs from itself by up to a tenth.
UNLIKE = 0.15
_FAR = 500  # steps; a run is past its beginning then


@rule("early-recording", "TR010", "the recorded steps are not like the rest", also=("first-epoch", "cached-dataset"))
def early_recording(run: Run) -> Outcome:
    """Compare the steps beside the recording with those of the whole run."""
    facts = run.facts
    if facts is None or facts.whole_run is None:
        return Skip("steps after the recording are only timed by mfu-doctor run and mfu_doctor.profile()")
    if not facts.timed_waits_s:
        return Skip("the run ended soon after the recording: its steps are all that is known")
    waits = run.later_waits
    if waits is not None and waits.share < 1.0:
        return _finding(
            run,
            f"A step waited {time_of(waits.recorded_ns)} for data while recorded and {time_of(waits.later_ns)} in the rest "
            "of the run: that wait is not counted",
        )
    beside, later = statistics.median(facts.beside_s), statistics.median(facts.timed_steps_s)
    if abs(beside - later) <= UNLIKE * min(beside, later):
        return None
    grows = "" if run.growth is None else ": they grow, and what is said of the recorded ones is not said of the growth"
    return _finding(
        run,
        f"Steps took {duration(beside)} just before the recording and {duration(later)} in the rest of the run (medians){grows}",
    )


def _later(timed: int) -> int:
    """Steps to skip: half of those that were timed, so that enough are left to record."""
    return max(min(timed // 2, _FAR), 1)


def _finding(run: Run, summary: str) -> Finding:
    facts = run.facts
    assert facts is not None
    beside, later = statistics.median(facts.beside_s), statistics.median(facts.timed_steps_s)
    attached = not run.is_cpu and later > beside
    return Finding(
        summary=summary,
        fix=again_with(facts, skip=_later(len(facts.timed_steps_s))),
        detail="the profiler can stay attached to a GPU and slow later steps by 10 to 20 %" if attached else None,
        evidence=(
            shown("step beside the recording", beside, "s"),
            shown("step of the run", later, "s"),
            *(
                (
                    shown("wait for data, recorded", run.later_waits.recorded_ns / NS_PER_S, "s"),
                    shown("wait for data, later", run.later_waits.later_ns / NS_PER_S, "s"),
                )
                if run.later_waits is not None
                else ()
            ),
        ),
        effort="setting",
        confidence="measured",
        spoils="figures",
    )
