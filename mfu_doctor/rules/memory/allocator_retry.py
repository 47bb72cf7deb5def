"""The allocator ran out of device memory and had to free its cache and try again.

What it measures
    num_alloc_retries and num_ooms of torch.cuda.memory_stats over the block, and the cudaMalloc and cudaFree calls in the steps.

Why it costs
    A retry waits for the device, frees every cached block with cudaFree and allocates anew: tens of milliseconds each time.

How the gain is predicted
    The allocator's calls vanish from the host in the steps (half of them at the low end). Replay gives the step.

How to fix
    PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True lessens fragmentation; otherwise a smaller batch or recomputation.

When it is wrong
    Retries of the first steps settle by themselves; those counted before the recorded steps have no price here.

References
    https://pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-cuda-alloc-conf
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, time_of
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need


@rule(
    "allocator-retry",
    "ME001",
    "device memory ran out and was freed",
    needs=(Need.DEVICE, Need.FACTS),
    also=("expandable-segments", "fragmentation"),
)
def allocator_retry(run: Run) -> Outcome:
    """Judge the allocator's retries."""
    memory = run.facts.memory if run.facts is not None else None
    if memory is None or (memory.alloc_retries is None and not memory.ooms):
        return Skip("allocator statistics were not captured")
    retries, ooms = memory.alloc_retries or 0, memory.ooms or 0
    if not retries and not ooms:
        return None
    steady = steady_of(run)
    spent = steady.per_step(float((run.host.allocator & steady.host).total_ns))
    gone = (ScaleHost(run.host.allocator, 0.0),)
    return Finding(
        summary=_summary(retries, ooms),
        fix="export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
        change=Change((ScaleHost(run.host.allocator, 0.5),), gone, gone),
        detail=f"the allocator takes {time_of(spent)} of each recorded step",
        evidence=(
            *((shown("retries", retries, "count"),) if memory.alloc_retries is not None else ()),
            *((shown("out of memory", ooms, "count"),) if memory.ooms is not None else ()),
            *((shown("peak reserved", memory.reserved_peak_bytes, "bytes"),) if memory.reserved_peak_bytes else ()),
        ),
        effort="setting",
        confidence="measured",
    )


def _summary(retries: int, ooms: int) -> str:
    """An allocation that failed for good is the worse news; a retry freed the cache and went on."""
    if ooms:
        return f"Device memory ran out for good {counted(ooms, 'time')}, after {counted(retries, 'retry')}"
    return f"Device memory ran out {counted(retries, 'time')} and the cache was freed"
