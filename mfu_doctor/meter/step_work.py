"""What one recorded step computed: its FLOPs, exactly as a report counts them, and the time that they need at the peak."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import MODEL
from mfu_doctor.analysis.utilization.mfu import ideal_peaks, ideal_seconds, reference_dtype
from mfu_doctor.analysis.utilization.reached_rates import reached_rates
from mfu_doctor.meter.peak import DevicePeak, Machine, live_peaks, told
from mfu_doctor.reading import read_trace


class StepWork(Struct, frozen=True, kw_only=True):
    """The work of one step.

    Attributes:
        flops: model FLOP; None if nothing could be counted.
        ideal_s: how long they take at the peak; None without a peak or FLOPs.
        peak: what the time is against.
        reason: why `flops` is None.
        unknown: operators that multiply and whose FLOPs are not known.
    """

    flops: float | None
    ideal_s: float | None
    peak: DevicePeak
    reason: str | None = None
    unknown: tuple[str, ...] = ()


def count_recorded(path: Path, machine: Machine) -> StepWork:
    """The work of a step that was recorded with shapes on the host.

    Args:
        path: the trace.
        machine: what is stated about the device.

    Raises:
        DoctorError: the trace holds no step.
    """
    run = Run(read_trace(path))
    count = run.flops
    dtypes = [dtype for dtype in count.by_dtype() if dtype is not None]
    peaks = live_peaks(machine, dtypes, run.trace, reached=reached_rates(run.recorded))
    reference = reference_dtype(count, peaks)
    ideal = ideal_peaks(peaks, reference)
    flops = count.flops()
    unknown = tuple(unknown.name for unknown in count.unknown if unknown.matmul_like)
    reason = None if flops else count.reason or "the step that was recorded has no operator with known FLOPs"
    return StepWork(
        flops=flops or None,
        ideal_s=ideal_seconds(count, MODEL, ideal) if ideal and flops else None,
        peak=told(peaks, reference),
        reason=reason,
        unknown=unknown,
    )


def stated(flops: float, peak: DevicePeak) -> StepWork:
    """The work that the user states."""
    return StepWork(flops=flops, ideal_s=None if peak.flops is None else flops / peak.flops, peak=peak)
