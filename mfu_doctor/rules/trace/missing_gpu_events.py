"""Kernels were launched, but the trace does not contain them.

What it measures
    Kernel launches on the CPU against kernels on the GPU with the same correlation id. In a trace without any kernel, what shows
    that the run used a GPU: calls of CUDA or HIP, operators that only GPUs have, GPU memory, NCCL, backward on a thread of its
    own, or a file that was cut off and whose header names a GPU.

Why it costs
    If kernels are missing, the GPU looks idle, and all percentages and savings are wrong. If all are missing, the operators on
    the CPU look like the work itself, but they only launch it. The report then contains no breakdown, no rates and no savings.

How the gain is predicted
    No gain is predicted. This is a caution: it shows how reliable the other numbers are.

How to fix
    Record with ProfilerActivity.CUDA. If it is already set, CUPTI may be missing, or another tool (Nsight, DCGM, a second
    profiler) may be using it. A driver older than the CUDA toolkit loses events as well, on WSL the driver of Windows.

When it is wrong
    A run on the CPU of a machine with a GPU has the GPU in its header too. It is taken for a GPU run only if the trace shows one
    of the signs above.
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
from mfu_doctor.analysis.views.lost_device import LostDevice
from mfu_doctor.quantities import number, share
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.trace import CALL_CATEGORIES

_KERNEL_LAUNCH = re.compile(r"^(cuda|hip|cu)(Ext)?(Module)?LaunchKernel")
# Launches near the end of a recording may lose their kernel; more than this share of them is a fault of the recording.
TOLERATED = 0.02


@rule("missing-gpu-events", "TR002", "launches without kernels", also=("kernels-without-launch", "no-gpu-events"))
def missing_gpu_events(run: Run) -> Outcome:
    """Compare kernel launches on the CPU with kernels on the GPU."""
    lost = run.lost_device
    if lost is not None:
        return _nothing_recorded(lost)
    trace = run.trace
    launches = rows_matching(trace, _KERNEL_LAUNCH, trace.rows(*CALL_CATEGORIES))
    if not len(launches):
        return None
    found = np.isin(launches, run.launches.call)
    missing = int((~found).sum())
    if missing <= TOLERATED * len(launches):
        return None
    return Finding(
        summary=f"{share(missing, len(launches))} of {number(len(launches))} kernel launches have no kernel in the trace",
        fix="torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], ...)",
        detail="idle time, MFU and every saving are unreliable: missing kernels look like idle time",
        evidence=(shown("launches", len(launches), "count"), shown("without a kernel", missing, "count")),
        effort="setting",
        confidence="measured",
        spoils="figures",
    )


def _nothing_recorded(lost: LostDevice) -> Finding:
    """No event of the GPU at all."""
    return Finding(
        summary=f"{lost.reason[:1].upper()}{lost.reason[1:]}",
        fix=lost.fix,
        detail=lost.remedy,
        evidence=(shown("kernels", 0, "count"),),
        effort="setting",
        confidence="measured",
        spoils="figures",
    )
