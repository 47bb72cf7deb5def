"""Whether batches come from storage or from memory: what was read while the timed steps ran, and how they fell as caches filled.

Where a cache fills, the first steps read from storage what the last ones find in memory; their difference is the only measure of
what storage costs that a run makes by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from mfu_doctor.analysis.run import Run

BYTES_PER_MB = 1e6  # storage is sold in decimal units
# A spinning disk does about a hundred random reads a second, which for images of 100 kB is this rate; every other storage does
# more. Below it nothing that training waits for is limited by reading; logs and late imports stay far below it.
STORAGE_MATTERS = 10 * BYTES_PER_MB  # bytes/s
# Thirds of fewer steps have no median of three.
LEAST_STEPS = 9
# Steps of a busy machine drift by a tenth (unstable-steps warns there); memory is ten times as fast as storage or more.
WARMED = 0.8
# From here on the cache explains at least half of the step, and with it most of the waiting that is in it.
MOSTLY_STORAGE = 0.5


@dataclass(frozen=True, slots=True)
class Warming:
    """Un-profiled steps as caches filled, in seconds.

    Attributes:
        cold_s: median of the first third.
        warm_s: median of the last third.
        usual_s: median of all.
    """

    cold_s: float
    warm_s: float
    usual_s: float

    @property
    def ratio(self) -> float:
        """Warm step over cold step."""
        return self.warm_s / self.cold_s

    @property
    def got_faster(self) -> bool:
        """Whether steps fell by more than they drift."""
        return self.ratio <= WARMED

    @property
    def usual_excess(self) -> float:
        """Share of the usual step that a warm one does not take: none where the cache was warm for most of the steps."""
        return max(1.0 - self.warm_s / self.usual_s, 0.0)


def warming_of(run: Run) -> Warming | None:
    """How the timed steps fell, or None where too few were timed to tell."""
    times = run.timed_steps_s
    if len(times) < LEAST_STEPS:
        return None
    third = len(times) // 3
    return Warming(median(times[:third]), median(times[-third:]), median(times))


def storage_rate(run: Run) -> float | None:
    """Bytes per second read from storage by the process and its workers over the timed steps; None where unknown."""
    host = run.facts.host if run.facts is not None else None
    return host.disk_read_bytes_s if host is not None else None


def is_mostly_storage(run: Run) -> bool:
    """Whether a filling cache was seen to take away most of what the step waits for."""
    rate, warming = storage_rate(run), warming_of(run)
    if rate is None or warming is None:
        return False
    return rate >= STORAGE_MATTERS and warming.ratio <= MOSTLY_STORAGE
