"""Kernels were launched, but the trace does not contain them.

What it measures
    Kernel launches on the CPU against kernels on the GPU with the same correlation id.

Why it costs
    If kernels are missing, the GPU looks idle, and all percentages and savings are wrong.

How the gain is predicted
    No gain is predicted. This is a caution: it shows how reliable the other numbers are.

How to fix
    Record with ProfilerActivity.CUDA. If it is already set, another tool (Nsight, DCGM, a second profiler) may be using CUPTI. A
    driver older than the CUDA toolkit loses events as well.

When it is wrong
    The rule is wrong for launches during graph capture: their kernels run later, in graph launches. The last launches of a
    recording can also lose their kernels.

References
    https://docs.nvidia.com/cupti/main/main.html
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number, share
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.trace import CALL_CATEGORIES

_KERNEL_LAUNCH = re.compile(r"^(cuda|hip|cu)(Ext)?(Module)?LaunchKernel")
# Launches near the end of a recording may lose their kernel; more than this share of them is a fault of the recording.
TOLERATED = 0.02


@rule("missing-gpu-events", "TR002", "launches without kernels", also=("kernels-without-launch", "no-gpu-events"))
def missing_gpu_events(run: Run) -> Outcome:
    """Compare kernel launches on the CPU with kernels on the GPU."""
    trace = run.trace
    launches = rows_matching(trace, _KERNEL_LAUNCH, trace.rows(*CALL_CATEGORIES))
    if not len(launches):
        return None
    found = np.isin(launches, run.launches.call)
    lost = int((~found).sum())
    if lost <= TOLERATED * len(launches):
        return None
    return Finding(
        summary=f"{share(lost, len(launches))} of {number(len(launches))} kernel launches have no kernel in the trace",
        fix="torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], ...)",
        detail="idle time, MFU and every saving are unreliable: missing kernels look like idle time",
        evidence=(shown("launches", len(launches), "count"), shown("without a kernel", lost, "count")),
        effort="setting",
        confidence="measured",
    )
