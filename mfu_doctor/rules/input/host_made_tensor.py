"""Small tensors are made on the host in each step and copied to the device, which stops the host each time.

What it measures
    Copies of less than 64 KiB from pageable memory, and the synchronisations after them.

Why it costs
    torch.tensor(x).cuda() costs a copy, a wait for it, and with it everything that was queued before.

How the gain is predicted
    Low end: the waits vanish; mid and high: the copies and the host time of their operators as well.

How to fix
    Make the tensor on the device (device="cuda"), make constants once, or collect several values into one pinned copy.

When it is wrong
    Values that change each step and are only known on the host must be copied; then pin them and copy without blocking.

References
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html#create-tensors-directly-on-the-target-device
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.attribution import removed
from mfu_doctor.analysis.evidence.copies import copies_matching
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.evidence.syncs import upload_syncs
from mfu_doctor.analysis.names.vocabulary import HOST_TO_DEVICE_PAGEABLE
from mfu_doctor.analysis.replay.edits import Change, DropWaits
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Larger copies are batches (pageable-copy).
MOST_BYTES = 64 * 1024
# One small upload a step (a learning rate, a label count) is part of any loop.
ORDINARY = 1.0


@rule("host-made-tensor", "IN006", "small tensors are made on the host and copied", needs=(Need.DEVICE,))
def host_made_tensor(run: Run) -> Outcome:
    """Judge small copies from pageable memory."""
    steady = steady_of(run)
    every = copies_matching(run, HOST_TO_DEVICE_PAGEABLE)
    every = every.only(every.size < MOST_BYTES)
    inside = steady.entries(run)[every.entry]
    count = steady.per_step(int(inside.sum()))
    if count <= ORDINARY:
        return None
    mask = np.zeros(run.activity.count, np.bool_)
    mask[every.entry] = True
    calls = np.unique(run.launches.call[every.entry])
    waits = DropWaits(upload_syncs(run, calls[calls >= 0]))
    blocked = len(steady.issued(run, waits.calls))
    gone = (waits, *removed(run, mask))
    issuers = every.only(inside).issuer(run)
    spent = (run.trace.events.end - run.trace.events.start)[np.unique(issuers)].sum()
    return Finding(
        summary=f"{counted(count, 'small tensor')} a step come from the host, "
        f"{steady.share(steady.per_step(float(spent)))} of the step on the host",
        fix='torch.zeros(n, device="cuda")  # instead of torch.zeros(n).to("cuda"); constants once, before the loop',
        detail=f"the host waits for {counted(steady.per_step(blocked), 'copy')} of them a step" if blocked else None,
        change=Change((waits,), gone, gone),
        evidence=(
            shown("small copies", count, "per step"),
            shown("waited for", steady.per_step(blocked), "per step"),
            shown("host time", seconds(steady.per_step(float(spent))), "s"),
        ),
        place=run.places(issuers[:1])[0],
    )
