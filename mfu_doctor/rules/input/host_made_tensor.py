"""Tensors are created on the CPU in each step and copied to the GPU. The CPU waits for each copy.

What it measures
    Copies of less than 64 KiB from pageable memory, larger ones of tensors that an operator such as zeros or rand has just made
    on the CPU, and the synchronisations after them.

Why it costs
    torch.tensor(x).cuda() copies the tensor and waits for the copy. The copy runs only after all kernels that were launched
    before it on the same stream.

How the gain is predicted
    Low: the waits are removed.
    Mid and high: the copies and the CPU time of their operators are removed as well.

How to fix
    Create the tensor on the GPU (device="cuda"), create constants once, or put several values into one pinned copy.

When it is wrong
    The rule is wrong if the values change in each step and only the CPU knows them: then they must be copied. In this case pin
    them and copy with non_blocking=True.

References
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html#create-tensors-directly-on-the-target-device
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.attribution import removed
from mfu_doctor.analysis.evidence.copies import copies_matching
from mfu_doctor.analysis.evidence.host_computing import made_on_host
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.evidence.syncs import upload_syncs
from mfu_doctor.analysis.names.vocabulary import HOST_TO_DEVICE_PAGEABLE
from mfu_doctor.analysis.replay.edits import Change, DropWaits
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Larger copies are batches (pageable-copy), unless the step itself made what is copied.
MOST_BYTES = 64 * 1024
# One small copy per step (a learning rate, a label count) is part of any loop.
ORDINARY = 1.0


@rule("host-made-tensor", "IN006", "tensors are created on the CPU and copied", needs=(Need.DEVICE,))
def host_made_tensor(run: Run) -> Outcome:
    """Judge copies from pageable memory of what is small or was made in the step."""
    steady = steady_of(run)
    every = copies_matching(run, HOST_TO_DEVICE_PAGEABLE)
    every = every.only((every.size < MOST_BYTES) | made_on_host(run, every))
    inside = steady.entries(run)[every.entry]
    count = steady.per_step(int(inside.sum()))
    large = bool((inside & (every.size >= MOST_BYTES)).any())
    if count <= ORDINARY and not large:
        return None
    mask = np.zeros(run.activity.count, np.bool_)
    mask[every.entry] = True
    waits = DropWaits(upload_syncs(run, run.launches.call[every.entry]))
    blocked = len(steady.issued(run, waits.calls))
    gone = (waits, *removed(run, mask))
    issuers = every.only(inside).issuer(run)
    spent = run.trace.events.lasting(distinct(issuers)).sum()
    return Finding(
        summary=f"CPU spends {steady.share(steady.per_step(float(spent)))} of the step on copies of "
        f"{counted(count, 'tensor' if large else 'small tensor')} to the GPU",
        fix='torch.zeros(n, device="cuda")  # not torch.zeros(n).to("cuda"); create constants before the loop',
        detail=f"the CPU waits for {counted(steady.per_step(blocked), 'copy')} per step" if blocked else None,
        decides=Ends(low="they have to come from the CPU", high="the tensors can be made on the device"),
        change=Change((waits,), gone, gone),
        evidence=(
            shown("copies" if large else "small copies", count, "per step"),
            shown("copies that block the CPU", steady.per_step(blocked), "per step"),
            shown("CPU time", seconds(steady.per_step(float(spent))), "s"),
        ),
        place=run.places(issuers[:1])[0],
        symptom_of=("host-computation",) if large else (),
    )
