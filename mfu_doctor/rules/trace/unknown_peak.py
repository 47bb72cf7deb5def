"""No peak FLOP/s is known for this device, so MFU is unknown.

What it measures
    Whether the device named in the trace is in the table of peaks, or a peak was measured or passed.

Why it costs
    Without a peak there is no MFU and no roofline for the kernels. A guessed peak is worse: other tools assume the peak of an
    A100 and can print an MFU of 563 %.

How the gain is predicted
    No gain is predicted. This is a caution: it shows how reliable the other numbers are.

How to fix
    Pass --peak-flops (dense FLOP/s of the dtype in use), or record with mfu_doctor.profile(), which measures the peak of a CPU.

When it is wrong
    If the peak is for a higher power limit or clock than this card has, MFU is too low.

References
    https://www.nvidia.com/en-us/data-center/ (datasheets, dense figures)
"""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown


@rule("unknown-peak", "TR008", "the peak of the device is unknown")
def unknown_peak(run: Run) -> Outcome:
    """Judge whether a peak is known, the denominator of MFU."""
    if run.mfu.reference_peak is not None:
        return None
    peaks = run.peaks
    cpu = peaks.kind == "cpu"
    return Finding(
        summary=f"No peak is known for {peaks.name or 'this device'}, so MFU is unknown",
        fix="mfu_doctor.profile()  # measures the peak of this CPU"
        if cpu
        else "mfu-doctor report TRACE --peak-flops 1.0e15",
        detail=peaks.reason,
        evidence=(shown("device", peaks.name or "not named in the trace"),),
        effort="setting",
        confidence="measured",
    )
