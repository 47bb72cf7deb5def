"""The replay of a run: the recorded timeline, and the timeline from which savings are predicted.

They are equal, unless profile() timed steps without the profiler. Then the second one is without the profiler's own time.
"""

from __future__ import annotations

from mfu_doctor.analysis.replay.profiler_overhead import without_profiler
from mfu_doctor.analysis.replay.replay import Replay
from mfu_doctor.analysis.replay.timeline import build_timeline
from mfu_doctor.analysis.views.host import Host
from mfu_doctor.analysis.views.mean_step import mean_step
from mfu_doctor.analysis.views.work import Work


def build_replay(work: Work, host: Host) -> Replay:
    """The timeline of a run as a model that can be changed and run again.

    Args:
        work: device work and steps.
        host: what the host threads did.
    """
    recorded = build_timeline(work, host)
    facts = work.trace.facts
    if facts is None or not facts.timed_steps_s:
        return Replay(recorded, work.activity.row)
    step_ns = mean_step(work.steps, facts).without_recording(recorded.measured_ns)
    plain = without_profiler(recorded, work.trace, step_ns)
    return Replay(recorded, work.activity.row, plain, slowdown=max(plain.measured_ns / step_ns, 1.0))
