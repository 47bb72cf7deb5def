"""How much of the cores of this process other processes used, during the steps without the profiler, and what it cost."""

from __future__ import annotations

from msgspec import Struct

from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.core_waits import MACHINES, OTHERS
from mfu_doctor.analysis.views.once import once

# Others using less than this share of the cores leave enough to spare.
OTHERS_SHARE = 0.25
# Cores are contended for if all processes together use this share of them.
BUSY_SHARE = 0.9
# A step is off by more than steps differ anyway if training waits for so much of it.
WAITED_SHARE = 0.05
# A device that waits for the host for less than this share of the step hides whatever the host suffers.
CRITICAL_SHARE = 0.01


class Contention(Struct, frozen=True):
    """CPU use during the timed steps, in cores.

    Attributes:
        cores: that this process may use.
        own: used by this process.
        others: used by other processes and other virtual machines on these cores, at least.
        waited: share of the time for which the training thread waited for a core, as Linux counted it; None if it did not.
        longer: share of the step by which it is likely longer because of them; None if `waited` is not known.
    """

    cores: float
    own: float
    others: float
    waited: float | None = None
    longer: float | None = None

    @property
    def is_contended(self) -> bool:
        """Whether training waited and that was for others, or where it is not known, whether they took much of cores all busy."""
        if self.waited is not None and self.longer is not None:
            return min(self.waited, self.longer) >= WAITED_SHARE
        return self.others >= OTHERS_SHARE * self.cores and self.own + self.others >= BUSY_SHARE * self.cores


@once
def contention_of(run: Run) -> Contention | str:
    """CPU use during the timed steps, or why it is not known."""
    host = run.facts.host if run.facts is not None else None
    if host is None or host.cpu_share is None or host.other_cpu_share is None:
        return "the CPU times of this and of other processes were not recorded"
    cores, others = host.usable_cores, host.other_cores
    if host.cores is None or cores is None or others is None:
        return "the number of CPU cores was not recorded"
    waits, theirs = run.core_waits, others + (host.stolen_cpu_share or 0.0)
    if isinstance(waits, str) or host.turns is None:
        return Contention(cores, host.cpu_share, theirs)
    longer = waits.because_of(OTHERS, MACHINES)[1]
    return Contention(cores, host.cpu_share, theirs, host.turns.training_waited, longer)


def host_is_critical(run: Run) -> bool:
    """Whether the host's speed is the step's: operators run on it, or the device waits for it or for its loader."""
    if run.is_cpu:
        return True
    waits = run.breakdown.mean_ns("launch", "python", "host_compute", "data_loading")
    return waits >= CRITICAL_SHARE * steady_of(run).step_ns
