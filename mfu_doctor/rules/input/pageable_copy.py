"""Batches are copied to the device from pageable memory, which is slow and makes the host wait for each copy.

What it measures
    Copies from host to device whose name says "Pageable", of at least 64 KiB: their number, bytes, bandwidth, and the time
    in which they run while nothing else does.

Why it costs
    The driver moves pageable memory through a small pinned buffer of its own: the copy runs at a fraction of the link's
    bandwidth, cannot overlap with computation, and blocks the host until it is done.

How the gain is predicted
    Each copy no longer blocks its call (and the synchronisation that PyTorch adds after it goes away). Mid: it takes
    its bytes over the bandwidth that pinned copies of this run reach, else 80 % of the PCIe generation's rate; low end:
    half way between that and now; high: as mid, and on a stream of its own. Where copies hide behind computation the saving is 0.

How to fix
    DataLoader(..., pin_memory=True) and batch.to(device, non_blocking=True).

When it is wrong
    Pinned memory is not swappable: on a host short of memory it hurts. Data created on the host inside the step is better
    created on the device.

References
    https://pytorch.org/tutorials/intermediate/pinmem_nonblock.html
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.copies import (
    Copies,
    copies_matching,
    is_link_known,
    pinned_bandwidth,
    without_optimizer,
)
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.evidence.syncs import upload_syncs
from mfu_doctor.analysis.names.vocabulary import HOST_TO_DEVICE_PAGEABLE
from mfu_doctor.analysis.replay.edits import AsyncCopies, Change, DropWaits, MoveToStream
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COPY
from mfu_doctor.quantities import bandwidth, counted, size_of
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_S, seconds

# CUDA stages copies from pageable memory up to this size without waiting for them.
STAGED_BYTES = 64 * 1024


@rule("pageable-copy", "IN002", "batches are copied from pageable memory", needs=(Need.DEVICE,), also=("pin-memory",))
def pageable_copy(run: Run) -> Outcome:
    """Judge copies from pageable host memory."""
    steady = steady_of(run)
    every = without_optimizer(run, copies_matching(run, HOST_TO_DEVICE_PAGEABLE, STAGED_BYTES))
    copies = every.only(steady.entries(run)[every.entry])
    if not len(copies.entry):
        return None
    exposed = (run.activity.busy(COPY) & run.breakdown.owners["memory_copy"]).overlap_with(
        run.activity.start[copies.entry], run.activity.end[copies.entry]
    )
    total = int(copies.size.sum())
    rate = total / max(int(copies.duration_ns.sum()), 1) * NS_PER_S
    pinned = pinned_bandwidth(run)
    least = "about" if is_link_known(run) else "at least"
    return Finding(
        summary=f"{counted(steady.per_step(len(copies.entry)), 'copy')} from pageable memory a step, exposed "
        f"{steady.share(steady.per_step(float(exposed.sum())))} of it",
        fix="DataLoader(..., pin_memory=True); batch = batch.to(device, non_blocking=True)",
        detail=f"{size_of(steady.per_step(total))} a step at {bandwidth(rate)}; pinned memory gives {least} "
        f"{bandwidth(pinned, 2)} and does not stop the host",
        change=_change(run, every, pinned),
        evidence=(
            shown("copies", steady.per_step(len(copies.entry)), "per step"),
            shown("bytes", steady.per_step(total), "bytes per step"),
            shown("bandwidth", rate, "bytes/s"),
            shown("exposed", seconds(steady.per_step(float(exposed.sum()))), "s"),
        ),
        place=run.places(copies.issuer(run)[:1])[0],
    )


def _change(run: Run, copies: Copies, pinned: float) -> Change:
    rows = run.activity.row[copies.entry]
    calls = run.launches.call[copies.entry]
    waits = DropWaits(upload_syncs(run, np.unique(calls[calls >= 0])))
    faster = np.minimum(copies.size / pinned * NS_PER_S, copies.duration_ns).astype(np.int64)
    mid = AsyncCopies(rows, faster)
    low = AsyncCopies(rows, (faster + copies.duration_ns) // 2)
    return Change((low, waits), (mid, waits), (mid, waits, MoveToStream(rows)))
