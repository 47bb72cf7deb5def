"""Whether the run went on waiting for data as it did while it was recorded.

A recording is of the run's first steps. A dataset that is read or decoded in the first pass and kept in memory afterwards is slow
there only. Steps without the profiler, which are timed to the end of the run, say how long each of them waited.
"""

from __future__ import annotations

from statistics import fmean

from msgspec import Struct

from mfu_doctor.analysis.views.growth import growth_of
from mfu_doctor.analysis.views.host import Host
from mfu_doctor.analysis.views.step_windows import Steps
from mfu_doctor.arrays.intervals import union
from mfu_doctor.facts import Facts
from mfu_doctor.facts.whole_run import LONG_STEP
from mfu_doctor.units import NS_PER_S

# Of the recorded step: a difference below it changes no answer.
_MATTERS = 0.02


class LaterWaits(Struct, frozen=True):
    """Waits for data per step: nanoseconds of the training thread, in the analysed steps and in the later ones.

    Attributes:
        recorded_ns: in the analysed steps.
        later_ns: in the rest of the run.
        pace: how long the rest of a step takes later, over what it takes beside the recording; 1 if it grows, by work of its own.
        step_ns: the analysed step.
    """

    recorded_ns: float
    later_ns: float
    pace: float
    step_ns: float

    @property
    def share(self) -> float:
        """What is left of the recorded wait in the rest of the run, if it is much less there; else 1."""
        # At the pace of the recording. Where a busy machine slows the rest of a step, it need not slow loading.
        later_ns = self.later_ns / min(self.pace, 1.0)
        if self.recorded_ns - later_ns < _MATTERS * self.step_ns or self.recorded_ns <= LONG_STEP * later_ns:
            return 1.0
        return later_ns / self.recorded_ns


def later_waits(steps: Steps, host: Host, facts: Facts | None) -> LaterWaits | None:
    """The waits of a run that was timed to its end; None for others.

    Args:
        steps: the recorded steps.
        host: what the host threads did.
        facts: what profile() recorded.
    """
    if facts is None or not facts.timed_waits_s or not steps.steady.any():
        return None
    waits = facts.timed_waits_s
    windows = union(steps.host_start[steps.steady], steps.host_end[steps.steady])
    count = int(steps.steady.sum())
    recorded, later = (host.fetch & windows).total_ns / count, fmean(waits) * NS_PER_S
    beside_rest = fmean(facts.beside_s) * NS_PER_S - recorded
    later_rest = fmean(facts.timed_steps_s) * NS_PER_S - later
    return LaterWaits(
        recorded_ns=recorded,
        later_ns=later,
        pace=later_rest / beside_rest if beside_rest > 0 and later_rest > 0 and growth_of(facts) is None else 1.0,
        step_ns=float(steps.duration[steps.steady].mean()),
    )
