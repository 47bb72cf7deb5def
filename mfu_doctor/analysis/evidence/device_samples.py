"""Samples of the device by its driver, while the analysed steps kept it busy.

Samples cover all of profile(), with set-up, pauses and export. A low clock of an idle device is not a problem, so the rules
about the device use only this selection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.replay.edits import Change, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.facts import DeviceSamples
from mfu_doctor.units import MEGA, NS_PER_S, seconds

# Bits of NVML's clocks event reasons (nvml.h, nvmlClocksEventReason*).
GPU_IDLE = 0x1
APPLICATION_CLOCKS = 0x2
SW_POWER_CAP = 0x4
HW_SLOWDOWN = 0x8  # thermal, power brake or an external signal; the bits below say which, if the driver knows
SYNC_BOOST = 0x10
SW_THERMAL = 0x20
HW_THERMAL = 0x40
HW_POWER_BRAKE = 0x80
DISPLAY_CLOCK = 0x100

BUSY_PERCENT = 50.0  # utilisation above which a sample counts as busy
OFTEN = 0.05  # a reason in fewer of the busy samples is a passing event
LEAST_SAMPLES = 5  # busy samples (half a second at 10 Hz) below which shares and means say nothing
_HALF = 0.5

_Reading = TypeVar("_Reading", int, float)


class Sampled(Struct, frozen=True):
    """Samples of the analysed device.

    Attributes:
        device: every reading, also those outside the block.
        block: indices of the samples inside the timed and recorded block.
        busy: those of them in which the device worked.
    """

    device: DeviceSamples
    block: tuple[int, ...]
    busy: tuple[int, ...]

    @property
    def is_enough(self) -> bool:
        """Whether there are enough busy samples."""
        return len(self.busy) >= LEAST_SAMPLES

    def mean(self, column: Sequence[float | None]) -> float | None:
        """Mean of a reading over the busy samples; None if it was read in none of them."""
        known = self._known(column)
        return sum(known) / len(known) if known else None

    def highest(self, column: Sequence[float | None]) -> float | None:
        """The highest reading in a busy sample; None if it was read in none of them."""
        return max(self._known(column), default=None)

    def masks(self) -> tuple[int, ...]:
        """Clock event reasons of the busy samples in which they were read."""
        reasons = self.device.event_reasons
        return tuple(m for i in self.busy if (m := _at(reasons, i)) is not None)

    def share(self, bits: int) -> float | None:
        """Share of the busy samples with one of these reasons; None if reasons were not read."""
        masks = self.masks()
        return sum(bool(mask & bits) for mask in masks) / len(masks) if masks else None

    def _known(self, column: Sequence[float | None]) -> list[float]:
        return [v for i in self.busy if (v := _at(column, i)) is not None]


class Clocks(Struct, frozen=True):
    """Mean SM clock of the busy samples and the clock to reach, in MHz."""

    mean_mhz: float
    reach_mhz: float  # the lower of the highest clock of this card and the clock at which its peak is stated

    @property
    def factor(self) -> float:
        """Part of its time that work bound by the clock would take at the clock to reach, at most 1."""
        return min(self.mean_mhz / self.reach_mhz, 1.0)


def sampled(run: Run) -> Sampled | None:
    """The samples of the analysed device: the only one that was sampled, else the busiest; None if there are none."""
    every = run.facts.samples if run.facts is not None else ()
    chosen = [_select(samples, block_of(run)) for samples in every if samples.time_ns]
    return max(chosen, key=lambda s: (_utilisation(s), len(s.busy)), default=None)


def block_of(run: Run) -> tuple[int, int] | None:
    """Unix nanoseconds from the first un-profiled timed step to the end of the last recorded one.

    None if neither a capture nor the trace says when it ran: then every sample counts, for sampling only goes on
    during profile().
    """
    facts = run.facts
    if facts is not None and facts.windows:
        start = min(w.start_ns for w in facts.windows)
        # The timed steps come directly before the profiler starts.
        return start - int(sum(facts.beside_s) * NS_PER_S), max(w.end_ns for w in facts.windows)
    if not run.trace.origin_ns:
        return None
    first, last = run.steps.extent
    return run.trace.origin_ns + first, run.trace.origin_ns + last


def clocks_of(run: Run, samples: Sampled) -> Clocks | None:
    """The clock that the busy device had and the one it could have; None if one of them is unknown."""
    mean = samples.mean(samples.device.sm_mhz)
    stated = run.peaks.boost_hz / MEGA if run.peaks.boost_hz else None
    known = [mhz for mhz in (samples.device.max_sm_mhz, stated) if mhz]
    return Clocks(mean, min(known)) if mean and known else None


def at_full_clock(run: Run, clocks: Clocks) -> Change:
    """Matmuls, convolutions and attention at the target clock; half of that gain for the low estimate."""
    activity = run.activity
    rows = distinct(activity.row[(activity.kind == COMPUTE) & run.kernels.matmul_like])

    def scaled(part: float) -> tuple[ScaleDevice]:
        return (ScaleDevice(rows, np.full(len(rows), 1.0 - part * (1.0 - clocks.factor))),)

    return Change(scaled(_HALF), scaled(1.0), scaled(1.0))


def throttled_share(samples: Sampled, cause: str) -> float | None:
    """Share of the sampled time that the driver's counters whose name has `cause` count as held back; None: not read."""
    time = samples.device.time_ns
    counted = [s for name, s in samples.device.throttle_s if cause in name.lower()]
    span = seconds(time[-1] - time[0])
    return min(max(counted) / span, 1.0) if counted and span > 0 else None


def _select(samples: DeviceSamples, block: tuple[int, int] | None) -> Sampled:
    inside = [i for i, t in enumerate(samples.time_ns) if block is None or block[0] <= t <= block[1]]
    busy, last = [], None
    for i in inside:
        last = last if (now := _at(samples.util_gpu, i)) is None else now
        if _is_busy(_at(samples.event_reasons, i), now, last):
            busy.append(i)
    return Sampled(samples, tuple(inside), tuple(busy))


def _is_busy(reasons: int | None, now: float | None, last: float | None) -> bool:
    """Utilisation is read less often than clocks; if the reasons are not read either, the last one read counts."""
    if reasons is not None and not reasons & GPU_IDLE:
        return True
    utilisation = now if reasons is not None else last
    return utilisation is not None and utilisation > BUSY_PERCENT


def _utilisation(samples: Sampled) -> float:
    known = [v for i in samples.block if (v := _at(samples.device.util_gpu, i)) is not None]
    return sum(known) / len(known) if known else 0.0


def _at(column: Sequence[_Reading | None], index: int) -> _Reading | None:
    """One reading; None also if the whole column was not read."""
    return column[index] if index < len(column) else None
