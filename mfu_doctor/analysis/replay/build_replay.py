"""The replay of a run: the recorded timeline, and the timeline from which savings are predicted.

They are equal, unless profile() timed steps without the profiler. Then the second one is without the profiler's own time.
"""

from __future__ import annotations

from mfu_doctor.analysis.replay.later_loading import as_later
from mfu_doctor.analysis.replay.profiler_overhead import without_profiler
from mfu_doctor.analysis.replay.replay import Replay
from mfu_doctor.analysis.replay.timeline import build_timeline
from mfu_doctor.analysis.views.core_waits import CoreWaits
from mfu_doctor.analysis.views.host import Host
from mfu_doctor.analysis.views.later_waits import later_waits
from mfu_doctor.analysis.views.mean_step import mean_step
from mfu_doctor.analysis.views.work import Work


def build_replay(work: Work, host: Host, waits: CoreWaits | str) -> Replay:
    """The timeline of a run as a model that can be changed and run again.

    What recording costs is told by the steps just before it; what a step takes, by those of the whole run.

    Args:
        work: device work and steps.
        host: what the host threads did.
        waits: how long threads waited for a core, or why that is not known.
    """
    recorded = build_timeline(work, host)
    facts = work.trace.facts
    if facts is None or not facts.timed_steps_s:
        return Replay(recorded, work.activity.row)
    mean = mean_step(work.steps, facts)
    plain = without_profiler(recorded, work.trace, mean.without_recording(recorded.measured_ns))
    plain = as_later(plain, work.activity.row, host, later_waits(work.steps, host, facts))
    slowdown = max(plain.measured_ns / mean.in_run(recorded.measured_ns), 1.0)
    return Replay(recorded, work.activity.row, plain, slowdown=slowdown / _on_a_core(work, waits))


def _on_a_core(work: Work, waits: CoreWaits | str) -> float:
    """Part of their time that the operators of a CPU-only run would take if no thread waited for a core."""
    return 1.0 if work.activity.is_device or isinstance(waits, str) else 1.0 - waits.delay[1]
