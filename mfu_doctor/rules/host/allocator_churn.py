"""Steps allocate and free GPU memory through the driver. This is slow and stops the GPU.

What it measures
    cudaMalloc, cudaFree and similar calls in the analysed steps, and the idle time of the GPU during them.

Why it costs
    The caching allocator of PyTorch reuses freed memory in microseconds. A cudaMalloc takes about 100 times longer, and cudaFree
    waits until the GPU is idle.

How the gain is predicted
    Low: the calls take half of their time.
    Mid and high: the calls are removed.
    Calls during which the GPU is busy save nothing.

How to fix
    Remove torch.cuda.empty_cache() from the loop. If sizes vary, set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, or pad
    to a few sizes.

When it is wrong
    The rule is wrong if GPU memory is full: then the allocator frees and retries. Use less memory first (allocator-retry).

References
    https://pytorch.org/docs/stable/notes/cuda.html#memory-management
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.steady_steps import part_of, steady_of
from mfu_doctor.analysis.names.vocabulary import ALLOCATOR, rows_matching
from mfu_doctor.analysis.replay.edits import Change, DropWaits, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.steps import WHOLE
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.trace import CALL_CATEGORIES
from mfu_doctor.units import seconds

_FREE = re.compile(r"Free$|Unmap$|Release$")
# After the first step the caching allocator needs no driver call: a call in every second step is already a fault.
RARE = 0.5


@rule(
    "allocator-churn",
    "HO005",
    "GPU memory is allocated and freed in each step",
    needs=(Need.DEVICE,),
    also=("empty-cache", "cuda-malloc"),
)
def allocator_churn(run: Run) -> Outcome:
    """Judge driver allocations in the steady steps."""
    if run.steps.source == WHOLE:
        return Skip("the trace has no step events, so warm-up cannot be separated: call prof.step() in the loop")
    steady = steady_of(run)
    calls = run.trace.rows(*CALL_CATEGORIES)
    rows = rows_matching(run.trace, ALLOCATOR, calls)
    inside = steady.issued(run, rows)
    count = steady.per_step(len(inside))
    if count < RARE:
        return None
    frees = len(rows_matching(run.trace, _FREE, inside))
    spent = steady.per_step(float(run.trace.events.lasting(inside).sum()))
    gone = (ScaleHost(run.host.allocator, 0.0), DropWaits(rows))
    return Finding(
        summary=f"Allocating and freeing GPU memory takes {steady.share(spent)} of the step "
        f"({counted(count, 'driver call')} per step)",
        fix="# remove torch.cuda.empty_cache() from the loop"
        if frees
        else "export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
        detail="cudaFree waits until the whole GPU is idle" if frees else None,
        confidence="measured",
        decides=Ends(low="half of these calls still reach the driver", high="the caching allocator serves all of them"),
        change=Change((ScaleHost(run.host.allocator, 0.5),), gone, gone),
        evidence=(
            shown("driver calls", count, "per step"),
            shown("driver calls that free memory", steady.per_step(frees), "per step"),
            shown("CPU time", seconds(spent), "s"),
            shown("GPU idle", seconds(part_of(run, "allocator").mean_ns), "s"),
        ),
        place=_place(run, inside),
        effort="setting",
        symptom_of=("allocator-retry",),
    )


def _place(run: Run, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str | None:
    return next((place for place in run.places(rows[:20]) if place is not None), None)
