"""The replay of a run: the recorded timeline, and the timeline from which savings are predicted.

They are equal, unless profile() timed steps without the profiler. Then the second one is without the profiler's own time.
"""

from __future__ import annotations

from statistics import median

from mfu_doctor.analysis.replay.later_loading import as_later
from mfu_doctor.analysis.replay.profiler_overhead import without_profiler
from mfu_doctor.analysis.replay.replay import Replay
from mfu_doctor.analysis.replay.timeline import build_timeline, replayed_steps
from mfu_doctor.analysis.views.host import Host
from mfu_doctor.analysis.views.later_waits import later_waits
from mfu_doctor.analysis.views.step_kinds import mean_over_median
from mfu_doctor.analysis.views.timed_steps import beside_steps, timed_steps
from mfu_doctor.analysis.views.work import Work
from mfu_doctor.units import NS_PER_S


def build_replay(work: Work, host: Host) -> Replay:
    """The timeline of a run as a model that can be changed and run again.

    What recording costs is told by the steps just before it; what a step takes, by those of the whole run.

    Args:
        work: device work and steps.
        host: what the host threads did.
    """
    recorded = build_timeline(work, host)
    timed = timed_steps(work.trace.facts)
    to_mean = mean_over_median(work.steps, replayed_steps(work.steps), timed, host.housekeeping)
    if not timed:
        return Replay(recorded, work.activity.row, mean_over_median=to_mean)
    step_ns = median(timed) * NS_PER_S * to_mean
    facts = work.trace.facts
    plain = without_profiler(recorded, work.trace, median(beside_steps(facts)) * NS_PER_S * to_mean)
    plain = as_later(plain, work.activity.row, host, later_waits(work.steps, host, facts))
    slowdown = max(plain.measured_ns / step_ns, 1.0)
    return Replay(recorded, work.activity.row, plain, slowdown=slowdown, mean_over_median=to_mean)
