"""What is probably wrong if a calculated MFU is above 100 %: the peak, the FLOPs or the time."""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.utilization.counted_work import CountedWork
from mfu_doctor.devices import Peaks
from mfu_doctor.flops.convolution import CONVOLUTION
from mfu_doctor.quantities import duration, flop_count, peak_rate, percent
from mfu_doctor.result.run import Mfu
from mfu_doctor.units import NS_PER_S

_MOST = 0.5  # share of the FLOPs that makes an operator the likely cause
# Peaks of the device table or measured here that are less certain than a published figure of this very card.
_UNSURE = {
    "derived": "it is estimated from the architecture",
    "scaled": "it is scaled to the number of units of this device",
    "unverified": "its vendor does not confirm it",
}
_BUSY = "the peak was probably measured on a busy machine: record again on an idle one, or pass --peak-flops"


def why_above_peak(counted: CountedWork, mfu: Mfu, step_s: float) -> str:
    """The most likely cause of an MFU above 100 %, and what to do: what the user stated comes first, then time, FLOPs and peak.

    Args:
        counted: the work of the run with its FLOPs and the peaks of its device.
        mfu: as it was calculated.
        step_s: the time that MFU is measured over, in seconds.
    """
    stated = _stated(counted, mfu)
    if stated is not None:
        return stated
    multiplied_s = counted.flops.mean(counted.flops.counted_ns) / NS_PER_S
    if counted.work.activity.is_device and multiplied_s > step_s:
        return (
            f"the time is probably wrong: the steps without the profiler took {duration(step_s)}, but the matmuls of the "
            f"recorded steps alone take {duration(multiplied_s)}"
        )
    if counted.peaks.measured:
        return _BUSY
    if mfu.causal is not None and mfu.causal <= 1:
        return f"the FLOPs of masked attention are counted in full; without the masked part it is {percent(mfu.causal)}"
    if _convolved(counted) > _MOST:
        return "the FLOPs are those of plain convolutions, and Winograd or FFT kernels need fewer of them"
    return _peak(counted.peaks)


def _stated(counted: CountedWork, mfu: Mfu) -> str | None:
    """The user's own numbers, if there are any."""
    peak, flops = counted.peaks.given, mfu.model_flops if mfu.method == "given" else None
    told = []
    if peak is not None:
        told.append(f"the given peak ({peak_rate(peak)}) is too low")
    if flops is not None:
        seen = counted.flops.flops()
        counts = f"; the trace contains {flop_count(seen)}" if seen else ""
        told.append(f"the given FLOPs ({flop_count(flops)} per step{counts}) are too high")
    options = [name for name, value in (("--peak-flops", peak), ("--model-flops", flops)) if value is not None]
    return f"{' or '.join(told)}: check {' and '.join(options)}" if told else None


def _convolved(counted: CountedWork) -> float:
    """Share of the steady steps' FLOPs that convolutions have."""
    ops, trace = counted.flops.ops, counted.work.trace
    window = counted.flops.window
    mine = np.flatnonzero((window >= 0) & (counted.flops.weight[np.maximum(window, 0)] > 0))
    flops = np.array([ops.costs[cost].model for cost in ops.cost[mine].tolist()], np.float64)
    convolves = np.isin(trace.events.name[ops.row[mine]], trace.name_ids(frozenset(CONVOLUTION)))
    return float(flops[convolves].sum() / flops.sum()) if flops.sum() else 0.0


def _peak(peaks: Peaks) -> str:
    unsure = _UNSURE.get(peaks.confidence or "")
    return f"the peak is probably wrong{f', {unsure}' if unsure else ''}: pass --peak-flops"
