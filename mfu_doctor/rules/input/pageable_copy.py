"""Batches are copied to the GPU from pageable memory. This is slow, and the CPU waits for each copy.

What it measures
    Host-to-device copies of at least 64 KiB whose name says "Pageable": their number, bytes and bandwidth, and the time in
    which the GPU runs nothing else.

Why it costs
    The driver copies pageable memory through a small pinned buffer of its own. The copy therefore reaches only a part of the
    PCIe bandwidth, cannot overlap with compute, and blocks the CPU until it is done.

How the gain is predicted
    The call returns at once, and the synchronisation that PyTorch adds is removed. Copies take turns on the PCIe link.
    Low: the copy gains half as much time as in the mid estimate.
    Mid: its time is bytes / bandwidth. The bandwidth is that of the pinned copies in this run. If there are none, it is 80 % of
    the PCIe bandwidth that NVML showed. If that was not recorded either, it is the geometric middle between the bandwidth of
    now and 80 % of what the card supports, because the host may support less.
    High: the copy reaches 80 % of the link, runs on a separate stream, and overlaps with copies to the CPU.
    Copies that overlap with compute save nothing.

How to fix
    DataLoader(..., pin_memory=True) and batch.to(device, non_blocking=True). Without a DataLoader: allocate a pinned
    tensor once and write the data of each step directly into it. Copying a finished tensor into it costs as much as it saves.

When it is wrong
    Pinned memory cannot be swapped out. If the host has little free memory, it can cause problems. If the data is created on
    the CPU inside the step, create it on the GPU instead.

References
    https://pytorch.org/tutorials/intermediate/pinmem_nonblock.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.copies import Copies, PinnedRate, at_rate, pageable, pinned_rate, through_pinned
from mfu_doctor.analysis.evidence.host_computing import made_on_host
from mfu_doctor.analysis.evidence.loading import has_data_loader
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.evidence.syncs import upload_syncs
from mfu_doctor.analysis.names.vocabulary import HOST_TO_DEVICE_PAGEABLE, TO_DEVICE
from mfu_doctor.analysis.replay.edits import AsyncCopies, Change, DropWaits, MoveToStream, TwoWayLink
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COPY
from mfu_doctor.quantities import bandwidth, number, size_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_WITH_LOADER = "DataLoader(..., pin_memory=True); batch = batch.to(device, non_blocking=True)"
_WITHOUT_LOADER = (
    "batch = torch.empty(shape, dtype=dtype, pin_memory=True); x = batch.to(device, non_blocking=True)"
    "  # allocate batch once, and write the data of each step directly into it"
)


@rule("pageable-copy", "IN002", "batches are copied from pageable memory", needs=(Need.DEVICE,), also=("pin-memory",))
def pageable_copy(run: Run) -> Outcome:
    """Judge copies from pageable host memory."""
    steady = steady_of(run)
    every = pageable(run, HOST_TO_DEVICE_PAGEABLE)
    copies = every.only(steady.entries(run)[every.entry])
    if not len(copies.entry):
        return None
    exposed = (run.activity.busy(COPY) & run.breakdown.owners["memory_copy"]).overlap_with(
        run.activity.start[copies.entry], run.activity.end[copies.entry]
    )
    total = int(copies.size.sum())
    pinned = pinned_rate(run, copies, TO_DEVICE)
    return Finding(
        summary=f"GPU waits {steady.share(steady.per_step(float(exposed.sum())))} of the step for copies from pageable memory "
        f"({number(steady.per_step(len(copies.entry)))} per step)",
        fix=_WITH_LOADER if has_data_loader(run) else _WITHOUT_LOADER,
        detail=f"{size_of(steady.per_step(total))} per step at {bandwidth(copies.rate)}; pinned memory does not block the CPU "
        f"and {through_pinned(pinned)}",
        decides=Ends(
            low="pinning gains half of what is expected", high="the copy reaches 80 % of the link and overlaps"
        ),
        change=_change(run, every, pinned),
        evidence=(
            shown("copies", steady.per_step(len(copies.entry)), "per step"),
            shown("bytes", steady.per_step(total), "bytes per step"),
            shown("bandwidth", copies.rate, "bytes/s"),
            shown("GPU waits for copies", seconds(steady.per_step(float(exposed.sum()))), "s"),
        ),
        place=run.places(copies.issuer(run)[:1])[0],
        symptom_of=("host-computation", "host-made-tensor") if _made_in_the_step(run, copies) else (),
    )


def _made_in_the_step(run: Run, copies: Copies) -> bool:
    """Whether most of the bytes are of tensors that the step itself makes on the CPU: the GPU can make them instead."""
    return 2 * int(copies.size[made_on_host(run, copies)].sum()) > int(copies.size.sum())


def _change(run: Run, copies: Copies, pinned: PinnedRate) -> Change:
    rows = run.activity.row[copies.entry]
    waits = DropWaits(upload_syncs(run, run.launches.call[copies.entry]))
    likely = at_rate(copies, pinned.likely)
    low = AsyncCopies(rows, (likely + copies.duration_ns) // 2)
    best = AsyncCopies(rows, at_rate(copies, pinned.best))
    return Change((low, waits), (AsyncCopies(rows, likely), waits), (best, waits, MoveToStream(rows), TwoWayLink()))
