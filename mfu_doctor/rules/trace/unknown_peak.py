"""There is no peak to divide by, so MFU is unknown.

What it measures
    Whether the device named in the trace is in the table of peaks, or a peak was measured or given.

Why it costs
    Without a denominator there is no MFU, and kernels cannot be judged against a roofline. A guessed one is worse: other tools
    assume an A100 and print 563 %.

How the gain is predicted
    There is no gain: it is a caution about the trace, and it says what the other numbers are worth.

How to fix
    Pass --peak-flops (dense FLOP/s of the format in use), or record with mfu_doctor.profile(), which measures a CPU.

When it is wrong
    A peak for another power limit or clock than this card has makes MFU too low.

References
    https://www.nvidia.com/en-us/data-center/ (datasheets, dense figures)
"""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown


@rule("unknown-peak", "TR008", "the device's peak is unknown")
def unknown_peak(run: Run) -> Outcome:
    """Judge whether there is a denominator for MFU."""
    if run.mfu.reference_peak is not None:
        return None
    peaks = run.peaks
    cpu = peaks.kind == "cpu"
    return Finding(
        summary=f"No peak is known for {peaks.name or 'this device'}, so MFU is unknown",
        fix="mfu_doctor.profile()  # measures this CPU's peak"
        if cpu
        else "mfu-doctor report TRACE --peak-flops 1.0e15",
        detail=peaks.reason,
        evidence=(shown("device", peaks.name or "not named in the trace"),),
        effort="setting",
        confidence="measured",
    )
