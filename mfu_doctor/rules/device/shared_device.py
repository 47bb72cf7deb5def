"""Other processes compute on the same device.

What it measures
    The highest number of processes with a compute context on the device that the driver listed while the run was sampled.

Why it costs
    Without MPS or MIG the processes take turns in time slices, and each keeps its context and its memory on the card. Steps
    become slower and unstable, and a second measurement does not repeat the first.

How the gain is predicted
    There is no gain to state: a trace does not show what the other processes did on the device, only that this run had gaps.

How to fix
    nvidia-smi lists the processes; end those left over from earlier runs, or give this one a device of its own with
    CUDA_VISIBLE_DEVICES.

When it is wrong
    The run's own processes count too: several ranks on one device, loader workers that touch CUDA, a display or a notebook
    that holds a context without computing. On a MIG instance only its own processes are listed.

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
    "other processes compute on the device",
    needs=(Need.SAMPLES,),
    also=("mig", "other-process"),
)
def shared_device(run: Run) -> Outcome:
    """Judge whether this run has the device to itself."""
    samples = sampled(run)
    if samples is None or samples.device.processes is None:
        return Skip("the processes on the device were not counted")
    processes = samples.device.processes
    if processes <= 1:
        return None
    return Finding(
        summary=f"{counted(processes - 1, 'other process')} may compute on the device beside this run",
        fix="nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv  # end leftovers, or set CUDA_VISIBLE_DEVICES",
        detail="loader workers that touch CUDA and other ranks on this device count too; step times may not repeat",
        evidence=(shown("processes on the device", processes, "count"),),
        effort="setting",
        confidence="measured",
    )
