"""How much of the cores of this process other processes used, during the steps without the profiler."""

from __future__ import annotations

from dataclasses import dataclass

from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.run import Run

# Others using less than this share of the cores leave enough to spare.
OTHERS_SHARE = 0.25
# Cores are contended for if all processes together use this share of them.
BUSY_SHARE = 0.9
# A device that waits for the host for less than this share of the step hides whatever the host suffers.
CRITICAL_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Contention:
    """CPU use during the timed steps, in cores.

    Attributes:
        cores: that this process may use.
        own: used by this process.
        others: used by other processes on these cores, at least.
    """

    cores: float
    own: float
    others: float

    @property
    def is_contended(self) -> bool:
        """Whether all of the cores were busy, and others took a good part of them."""
        return self.others >= OTHERS_SHARE * self.cores and self.own + self.others >= BUSY_SHARE * self.cores


def contention_of(run: Run) -> Contention | str:
    """CPU use during the timed steps, or why it is not known."""
    host = run.facts.host if run.facts is not None else None
    if host is None or host.cpu_share is None or host.other_cpu_share is None:
        return "the CPU times of this and of other processes were not recorded"
    if host.cores is None:
        return "the number of CPU cores was not recorded"
    cores = host.usable_cores or host.cores
    others = max(host.other_cpu_share - (host.cores - cores), 0.0)  # the rest of the machine may have held that much
    return Contention(cores, host.cpu_share, others)


def host_is_critical(run: Run) -> bool:
    """Whether the host's speed is the step's: operators run on it, or the device waits for it or for its loader."""
    if run.is_cpu:
        return True
    waits = run.breakdown.mean_ns("launch", "python", "host_compute", "data_loading")
    return waits >= CRITICAL_SHARE * steady_of(run).step_ns
