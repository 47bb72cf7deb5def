"""The replay of a run: the recorded timeline, and beside it the one that fixes are priced on.

Where a live run timed steps without the profiler, the profiler's own time is taken out of the timeline that fixes are priced on;
and where a few long recorded steps are the run's own doing, a usual step stands for the rest.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean, median

from mfu_doctor.analysis.replay.model import Timeline
from mfu_doctor.analysis.replay.profiler_overhead import deflate
from mfu_doctor.analysis.replay.replay import Replay
from mfu_doctor.analysis.replay.timeline import build_timeline
from mfu_doctor.analysis.views.disturbed_steps import are_often_long, is_rarely_long
from mfu_doctor.analysis.views.host import Host
from mfu_doctor.analysis.views.timed_steps import timed_steps
from mfu_doctor.analysis.views.work import Work
from mfu_doctor.units import NS_PER_S


def build_replay(work: Work, host: Host) -> Replay:
    """The timeline of a run as a model that can be changed and run again.

    Args:
        work: device work and steps.
        host: what the host threads did.
    """
    recorded = build_timeline(work.trace, work.activity, work.launches, work.steps, host.blocking_rows)
    timed = timed_steps(work.trace.facts)
    if not timed:
        return Replay(recorded, work.activity.row)
    live = _as_without_profiler(recorded, work, host, timed)
    step_ns = median(timed) * NS_PER_S * live.measured_ns / live.usual_ns
    plain = deflate(live, work.trace, step_ns)
    return Replay(recorded, work.activity.row, plain, stretch=max(plain.measured_ns / step_ns, 1.0))


def _as_without_profiler(recorded: Timeline, work: Work, host: Host, timed: tuple[float, ...]) -> Timeline:
    """The timeline with the usual step as the un-profiled steps show it."""
    if are_often_long(timed):
        return replace(recorded, usual_ns=recorded.measured_ns * median(timed) / fmean(timed))
    if not is_rarely_long(work.steps, host.housekeeping):
        return replace(recorded, usual_ns=recorded.measured_ns)
    return recorded
