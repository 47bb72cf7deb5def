"""Other processes use the same GPU.

What it measures
    The highest number of processes with a compute context on the GPU that the driver listed during the recording.

Why it costs
    Without MPS or MIG the processes share the GPU in time slices, and each keeps its context and its memory on the card. Step
    times become longer and vary, and measurements cannot be repeated.

How the gain is predicted
    No gain is predicted: a trace does not show what the other processes did on the GPU. It shows only that this run had gaps.

How to fix
    nvidia-smi lists the processes. Stop those that remain from earlier runs, or give this run its own GPU with
    CUDA_VISIBLE_DEVICES.

When it is wrong
    The rule is wrong if the processes belong to this run: several ranks on one GPU, or DataLoader workers that use CUDA. It is
    also wrong if a display or a notebook has a context and computes nothing. On a MIG instance only its own processes are
    listed.

References
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html (nvmlDeviceGetComputeRunningProcesses)
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.device_samples import sampled
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need


@rule(
    "shared-device",
    "DV003",
    "other processes use the GPU",
    needs=(Need.SAMPLES,),
    also=("mig", "other-process"),
)
def shared_device(run: Run) -> Outcome:
    """Judge whether other processes use the GPU of this run."""
    samples = sampled(run)
    if samples is None or samples.device.processes is None:
        return Skip("the processes on the GPU were not counted")
    processes = samples.device.processes
    if processes <= 1:
        return None
    return Finding(
        summary=f"GPU also has CUDA contexts of {counted(processes - 1, 'other process')}",
        fix="nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv  # stop old ones, or set CUDA_VISIBLE_DEVICES",
        detail="DataLoader workers that use CUDA and other ranks on this GPU count too; step times may vary",
        evidence=(shown("processes on the GPU", processes, "count"),),
        effort="setting",
        confidence="measured",
    )
