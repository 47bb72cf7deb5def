"""Steps still allocate and free device memory through the driver, which is slow and stops the device.

What it measures
    cudaMalloc, cudaFree and their kin in the steady steps, and the idle time of the device while they run.

Why it costs
    PyTorch keeps freed memory and hands it out again in microseconds. A driver allocation takes a hundred times that, and
    cudaFree waits until the device is idle.

How the gain is predicted
    The calls vanish (mid, high) or take half their time (low). Calls behind a busy device save nothing.

How to fix
    Remove torch.cuda.empty_cache() from the loop. Where sizes vary, PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, or
    pad to few sizes.

When it is wrong
    Memory that is full makes the allocator free and retry; then use less of it first (allocator-retry).

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
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.trace import CALL_CATEGORIES
from mfu_doctor.units import seconds

_FREE = re.compile(r"Free$|Unmap$|Release$")
# Once the caching allocator has seen a step it asks the driver for nothing; a call in every second step is churn.
RARE = 0.5


@rule(
    "allocator-churn",
    "HO005",
    "device memory is allocated and freed in each step",
    needs=(Need.DEVICE,),
    also=("empty-cache", "cuda-malloc"),
)
def allocator_churn(run: Run) -> Outcome:
    """Judge driver allocations in the steady steps."""
    if run.steps.source == WHOLE:
        return Skip("the trace has no step marks, and every run allocates at its start: call prof.step() in the loop")
    steady = steady_of(run)
    calls = run.trace.rows(*CALL_CATEGORIES)
    rows = rows_matching(run.trace, ALLOCATOR, calls)
    inside = steady.issued(run, rows)
    count = steady.per_step(len(inside))
    if count < RARE:
        return None
    frees = len(rows_matching(run.trace, _FREE, inside))
    spent = steady.per_step(float((run.trace.events.end - run.trace.events.start)[inside].sum()))
    gone = (ScaleHost(run.host.allocator, 0.0), DropWaits(rows))
    return Finding(
        summary=f"Allocating and freeing through the driver takes {steady.share(spent)} of the step, "
        f"{counted(count, 'call')} in it",
        fix="# remove torch.cuda.empty_cache() from the loop"
        if frees
        else "export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
        detail="cudaFree waits for the whole device" if frees else None,
        change=Change((ScaleHost(run.host.allocator, 0.5),), gone, gone),
        evidence=(
            shown("driver calls", count, "per step"),
            shown("of them frees", steady.per_step(frees), "per step"),
            shown("host time", seconds(spent), "s"),
            shown("GPU idle", seconds(part_of(run, "allocator").stated_ns), "s"),
        ),
        place=_place(run, inside),
        effort="setting",
        symptom_of=("allocator-retry",),
    )


def _place(run: Run, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str | None:
    return next((place for place in run.places(rows[:20]) if place is not None), None)
