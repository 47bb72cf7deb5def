"""The allocator ran out of GPU memory, freed its cache and tried again.

What it measures
    num_alloc_retries and num_ooms of torch.cuda.memory_stats inside the profile() block, and the cudaMalloc and cudaFree calls in
    the steps.

Why it costs
    A retry waits for the GPU, frees every cached block with cudaFree and allocates again. This takes tens of milliseconds each
    time.

How the gain is predicted
    Low: half of the CPU time of allocator calls in the steps is removed.
    Mid and high: all of it is removed.
    Replay gives the new step time.

How to fix
    PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True reduces fragmentation. Otherwise use a smaller batch or recomputation.

When it is wrong
    The rule is wrong if the retries were only in the first steps: this is normal. For retries before the recorded steps no saving
    is predicted.

References
    https://pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-cuda-alloc-conf
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, time_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds


@rule(
    "allocator-retry",
    "ME001",
    "the allocator ran out of GPU memory and retried",
    needs=(Need.DEVICE, Need.FACTS),
    also=("expandable-segments", "fragmentation"),
)
def allocator_retry(run: Run) -> Outcome:
    """Judge the allocator's retries."""
    memory = run.facts.memory if run.facts is not None else None
    if memory is None or (memory.alloc_retries is None and not memory.ooms):
        return Skip("allocator statistics were not recorded")
    retries, ooms = memory.alloc_retries or 0, memory.ooms or 0
    if not retries and not ooms:
        return None
    steady = steady_of(run)
    spent = steady.host_ns(run.host.allocator)
    gone = (ScaleHost(run.host.allocator, 0.0),)
    return Finding(
        summary=_summary(retries, ooms),
        fix="export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
        decides=Ends(low="half of the retries stay", high="no retry is left"),
        change=Change((ScaleHost(run.host.allocator, 0.5),), gone, gone),
        detail=f"allocator calls take {time_of(spent)} per step",
        evidence=(
            shown("allocator calls", seconds(spent), "s"),
            *((shown("retries", retries, "count"),) if memory.alloc_retries is not None else ()),
            *((shown("out-of-memory errors", ooms, "count"),) if memory.ooms is not None else ()),
            *((shown("peak reserved", memory.reserved_peak_bytes, "bytes"),) if memory.reserved_peak_bytes else ()),
        ),
        effort="setting",
        confidence="measured",
    )


def _summary(retries: int, ooms: int) -> str:
    """An allocation that failed is worse than a retry, which freed the cache and succeeded."""
    if ooms:
        return f"The allocator raised {counted(ooms, 'out-of-memory error')}, after {counted(retries, 'retry')}"
    return f"The allocator ran out of GPU memory {counted(retries, 'time')}, freed its cache and retried"
