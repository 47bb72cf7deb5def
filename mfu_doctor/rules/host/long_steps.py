"""Some steps take much longer because they contain other work: a checkpoint, a log, an evaluation, a rollout.

What it measures
    Analysed steps that are longer than 1.5 times the median, and that have operators which usual steps do not have or are longer
    than the median plus three robust standard deviations. In these steps: such operators, and long gaps on the CPU. A line that
    takes most of its time in usual steps, and longer in some, is no other work: host-bound counts all of it.

Why it costs
    If every 100th step contains work that takes as long as 50 steps, one third of the total time is lost. The median step does
    not show this.

How the gain is predicted
    Low: half of the other work remains: it is done half as often, or on half the data.
    Mid: it is done so many times less that it takes 5 % of the time, at least half as often.
    High: it is removed.
    The saving is per mean step: long steps count as often as recorded and un-profiled steps together say.

How to fix
    Save checkpoints asynchronously, evaluate less often, log from another thread.

When it is wrong
    The rule is wrong if the recording contains such a step by chance. With one or two long steps the real cost is known only
    roughly. Work that usual steps may learn from (a rollout) is not advised against: it draws random numbers and keeps what it
    makes, and usual steps take rows by an index.

References
    https://pytorch.org/docs/stable/distributed.checkpoint.html (async_save)
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.attribution import work_in
from mfu_doctor.analysis.evidence.collected_data import may_be_learned_from
from mfu_doctor.analysis.evidence.host_time import at_one_line, host_time_of, joined, longest_pause
from mfu_doctor.analysis.evidence.rare_work import in_long_steps, times_less, told_of_the_run
from mfu_doctor.analysis.evidence.steady_steps import Steady, steady_of
from mfu_doctor.analysis.replay.edits import Change, DropWaits, Edit, ScaleDevice, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.source_lines import Spot
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.quantities import counted, number, share, time_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import seconds

# Steps within three robust standard deviations (1.4826 x MAD) of the median vary as all steps of this run do.
_SIGMA, _TO_SIGMA = 3.0, 1.4826
# One long step and two that say what a usual one takes: a default recording has three or four analysed steps.
ENOUGH = 3
_HALF = 0.5
_NEEDED = (
    "it draws random numbers and keeps what it makes, and usual steps take rows of tensors: they may learn from it, as from a "
    "rollout"
)


@rule(
    "long-steps",
    "HO010",
    "some steps contain other work",
    also=("outlier-steps", "evaluation", "save-checkpoint", "logging", "validation"),
)
def long_steps(run: Run) -> Outcome:
    """Look for steps that are long because the program did something else."""
    steady = steady_of(run)
    index = np.flatnonzero(run.steps.steady)
    if len(index) < ENOUGH:
        return Skip(f"fewer than {ENOUGH} analysed steps: record more steps")
    length = run.steps.duration[index].astype(np.float64)
    middle = float(run.steps.duration[run.steps.median])
    spread = _SIGMA * _TO_SIGMA * float(np.median(np.abs(length - middle)))
    has_more = run.extra_work.overlap_with(run.steps.host_start[index], run.steps.host_end[index]) > 0
    steps = index[((length > middle + spread) | has_more) & run.steps.long[index]]
    if not len(steps):
        return _seen_elsewhere(run, len(index))
    windows = union(run.steps.host_start[steps], run.steps.host_end[steps])
    extra = run.extra_work & windows
    pauses = host_time_of(run, steady).pauses & windows
    other = joined(extra, pauses)
    if not other.count:
        return None
    spot = run.inside_at(extra) if extra.count else run.python_at(pauses)
    usual = np.flatnonzero(run.steps.steady & ~run.steps.long)
    apart = union(run.steps.host_start[usual], run.steps.host_end[usual])
    rare = run.inside_only(extra, apart) if extra.count else run.python_only(pauses, apart)
    if not extra.count and _take_every_step(run, steady, pauses):
        return None
    times = times_less(run.steps.mean_ns - middle, middle)
    return Finding(
        summary=f"{number(len(steps))} of {len(index)} steps took up to {time_of(float(length.max()))}; the median step took "
        f"{time_of(middle)}",
        fix=_fix(rare, spot, extra, times),
        detail=_detail(run, steady, extra, pauses - extra),
        decides=Ends(low="it is done half as often", high="this work can leave the run"),
        change=Change(*(_left(run, extra, pauses, left) for left in (_HALF, 1.0 / times, 0.0))),
        evidence=(
            shown("long steps", len(steps), "count"),
            shown("longest step", seconds(float(length.max())), "s"),
            shown("median step", seconds(middle), "s"),
            shown("other work, mean of all steps", seconds(steady.per_step(float(other.total_ns))), "s"),
        ),
        effort="refactor",
        place=at.place if (at := rare or spot) else None,
        symptom_of=("outside-steps",) if told_of_the_run(run) else (),
        confidence="hint",
        withhold=_NEEDED if may_be_learned_from(run, extra) else None,
    )


def _take_every_step(run: Run, steady: Steady, pauses: Intervals) -> bool:
    """Whether these are longer ones of what all steps have at their line: host-bound has the whole of it."""
    everywhere = host_time_of(run, steady).pauses & steady.host
    return at_one_line(run, pauses, everywhere) and not in_long_steps(run, everywhere)


def _seen_elsewhere(run: Run, recorded: int) -> Skip | None:
    """No recorded step is long: that is fine only if no step of the whole run is."""
    whole = run.facts.whole_run if run.facts is not None else None
    if whole is None or not whole.long_steps:
        return None
    return Skip(f"{number(whole.long_steps)} steps of the run were long, but none of the {recorded} recorded ones")


def _fix(rare: Spot | None, spot: Spot | None, extra: Intervals, times: int) -> str:
    """What to do so many times less often; the same on less data, in larger batches or elsewhere is worth as much.

    Args:
        rare: code that only long steps run.
        spot: where most of the time goes; usual steps run it too if `rare` is None.
        extra: the time in operators that usual steps do not have.
        times: how many times less.
    """
    if rare is None and spot is not None:
        more = f"{spot.spelled}: it runs in usual steps too"
        if extra.count:
            return f"# {more}; do what it does more in long ones {times} times less often, or on less data"
        return f"# {more}; find what it does more in long ones, or move that to another thread"
    if extra.count:
        what = f"{rare.spelled}: " if rare else "evaluate (or collect data) "
        return f"# {what}{times} times less often, or on less data or in larger batches"
    what = f"call {rare.spelled}" if rare else "write checkpoints and logs"
    return f"# {what} {times} times less often, or from another thread"


def _detail(run: Run, steady: Steady, extra: Intervals, pauses: Intervals) -> str | None:
    """What the long steps do besides: in operators of their own, in their fetches, or in no operator at all."""
    said = []
    if extra.count:
        run_there = int(np.count_nonzero(work_in(run, extra)))
        said.append(
            f"{counted(run_there, 'operation')} in {time_of(float(extra.total_ns))} that usual steps do not have"
        )
        fetching = (run.host.fetch & extra).total_ns
        if fetching:
            said.append(f"loading batches takes {share(fetching, extra.total_ns)} of it")
    pause = longest_pause(pauses, steady)
    if pause:
        said.append(f"the longest gap of the CPU takes {time_of(pause[1] - pause[0])}")
    return "; ".join(said) or None


def _left(run: Run, extra: Intervals, pauses: Intervals, factor: float) -> tuple[Edit, ...]:
    """The other work takes this share of its time."""
    host = joined(extra, pauses)
    edits: list[Edit] = [ScaleHost(host - run.activity.busy() if run.is_cpu else host, factor)]
    rows = distinct(run.activity.row[work_in(run, extra)])
    if len(rows):
        edits.append(ScaleDevice(rows, np.full(len(rows), factor)))
    waits = run.host.blocking_rows[extra.contains(run.trace.events.start[run.host.blocking_rows])]
    if len(waits) and factor < _HALF:  # most of these calls are gone
        edits.append(DropWaits(waits))
    return tuple(edits)
