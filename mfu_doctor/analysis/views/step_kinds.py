"""Which recorded steps are analysed, why the others are excluded, and which of the analysed ones are long.

A *steady* step is analysed: every count, share and saving of a report is of the steady steps. The others are excluded:

- *warm-up*: the first step (its queue is empty). If it is long, also the long ones right after it (compilation, autotuning, the
  start of DataLoader workers). If the first steps wait for data and all later ones do not, also those.
- *disturbed*: a step that is much longer than the longest step without the profiler, and the run itself shows no reason (work
  that other steps do not have, a late batch, compilation). Its operators were slowed from outside, so the predicted savings would
  be too large.

A *long* step takes more than `LONG` times the median of the steps that it is compared with. A long step that is not excluded
belongs to the run (a checkpoint, an evaluation, compilation): the mean step, which a report is of, has its share of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from mfu_doctor.analysis.views.activity import Activity
from mfu_doctor.analysis.views.extra_work import extra_work, late_batches
from mfu_doctor.analysis.views.host import Host
from mfu_doctor.analysis.views.launches import Launches
from mfu_doctor.analysis.views.mean_step import how_often
from mfu_doctor.analysis.views.step_content import step_content
from mfu_doctor.analysis.views.step_windows import StepKind, Steps
from mfu_doctor.analysis.views.steps import find_steps
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.facts import Facts
from mfu_doctor.result.step import LONG
from mfu_doctor.trace import Trace
from mfu_doctor.units import NS_PER_S

Mask = npt.NDArray[np.bool_]

# Waits for data fall off if the shortest one before is this many times the longest one after, and that matters to the step.
_FALLS_OFF, _MATTERS = 3.0, 0.1
_SETTLED = 3  # later steps that show it


def recorded_steps(
    trace: Trace, activity: Activity, launches: Launches, host: Host, wanted: tuple[int, int] | None
) -> Steps:
    """The recorded steps of a trace, each with its kind.

    Args:
        trace: the trace.
        activity: its device work.
        launches: which call and operator each device operation belongs to.
        host: what the host threads did.
        wanted: only these steps (the user's choice), a half-open range of numbers; none of them is excluded.
    """
    found = find_steps(trace, activity, launches, wanted)
    if wanted is not None:
        return found
    own = (host.housekeeping, extra_work(trace, found, host), late_batches(trace, host))
    starts, ends = (np.concatenate([getattr(where, side) for where in own]) for side in ("start", "end"))
    return with_kinds(found, trace.facts, union(starts, ends), _first_pass(found, host))


def with_kinds(steps: Steps, facts: Facts | None, own: Intervals, first_pass: int = 0) -> Steps:
    """The steps with their kinds, and a note about the excluded ones.

    Args:
        steps: recorded windows.
        facts: what profile() recorded; without its step times without the profiler no step is called disturbed.
        own: work of the run itself, even if it occurs only once (compiling, an evaluation, a late batch). A step that is long
            because of it is not disturbed.
        first_pass: leading steps whose data came slowly and later quickly.
    """
    kind = np.full(steps.count, StepKind.STEADY, np.int8)
    warm = max(_warm_up(steps.duration), first_pass)
    kind[:warm] = StepKind.WARM_UP
    steps = replace(steps, kind=kind)
    timed = facts.timed_steps_s if facts is not None else ()
    disturbed = _disturbed(steps, max(timed) * NS_PER_S, own) if timed else np.zeros(steps.count, np.bool_)
    said = (steps.note, step_content(facts), *_left_out(warm, int(disturbed.sum()), first_pass))
    note = "; ".join(part for part in said if part)
    judged = replace(steps, kind=np.where(disturbed, StepKind.DISTURBED, kind).astype(np.int8), note=note or None)
    return replace(judged, often=how_often(judged, facts))


def _is_long(took: npt.NDArray[np.int64], middle: float) -> Mask:
    return took > LONG * middle


def _warm_up(duration: npt.NDArray[np.int64]) -> int:
    """How many leading steps warm up: all long ones, as long as half of the steps remain, and in any case the first."""
    if len(duration) < 2:
        return 0
    long = _is_long(duration, float(np.median(duration[1:])))
    leading = int(np.argmin(np.append(long, False)))
    return max(leading, 1) if leading <= len(duration) // 2 else 1


def _first_pass(steps: Steps, host: Host) -> int:
    """How many leading steps waited for data that later ones have at once: 0 if the waits do not fall off for good.

    A data set that is read in the first pass and kept in memory is slow there only. Workers that are late deliver in bursts, so
    waits for them come again.
    """
    waits = host.fetch.overlap_with(steps.host_start, steps.host_end)
    least, most = np.minimum.accumulate(waits), np.maximum.accumulate(waits[::-1])[::-1]
    for first in range(steps.count - _SETTLED, 1, -1):
        slow, quick = int(least[first - 1]), int(most[first])
        if slow <= _FALLS_OFF * quick:
            continue
        if slow - quick > _MATTERS * float(np.median(steps.duration[first:])):
            return first
    return 0


def _disturbed(steps: Steps, longest_ns: float, own: Intervals) -> Mask:
    """Steady steps that are long compared with the longest step without the profiler too, and that the run does not explain."""
    middle = float(np.median(steps.duration[steps.steady]))
    return steps.steady & _is_long(steps.duration, max(middle, longest_ns)) & ~_explained(steps, own)


def _explained(steps: Steps, own: Intervals) -> Mask:
    """Steady steps that `own` covers for at least half of what they take beyond the median one, shape (steps,)."""
    found = np.zeros(steps.count, np.bool_)
    middle = float(np.median(steps.duration[steps.steady]))
    for i in np.flatnonzero(steps.steady & (steps.duration > middle)).tolist():
        # what the host does while it issues a step, or while the device waits in it
        window = union(np.array([steps.start[i], steps.host_start[i]]), np.array([steps.end[i], steps.host_end[i]]))
        found[i] = (own & window).total_ns >= (float(steps.duration[i]) - middle) / 2
    return found


def _left_out(warm: int, disturbed: int, first_pass: int) -> tuple[str, ...]:
    """What the report says about excluded steps; nothing if only the first one is excluded, as always."""
    said = []
    if warm > 1 and warm == first_pass:
        said.append(
            f"the first {warm} steps waited for data, and the later ones do not: they are excluded as the first pass over a data "
            "set that is then in memory"
        )
    elif warm > 1:
        said.append(f"the first {warm} steps are much longer than the others: they are excluded as warm-up")
    if disturbed:
        which = "one recorded step is" if disturbed == 1 else f"{disturbed} recorded steps are"
        said.append(f"{which} excluded: more than {LONG:g} times as long as the longest step without the profiler")
    return tuple(said)
