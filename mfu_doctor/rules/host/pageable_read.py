"""Large results are copied from the GPU to pageable memory. This is slow, and the CPU waits for each copy.

What it measures
    Device-to-host copies of at least 64 KiB whose name says "Pageable", outside the optimizer: their number, bytes and bandwidth,
    and the time in which the GPU runs nothing else.

Why it costs
    The driver copies through a small pinned buffer of its own, and the CPU moves the data on from there. The copy therefore
    reaches only a part of the PCIe bandwidth, and the CPU launches nothing until it is done.

How the gain is predicted
    Low: the copy gains half as much time as in the mid estimate, and the CPU still waits for it.
    Mid: the CPU does not wait. The time of the copy is bytes / bandwidth of pinned memory, as pageable-copy estimates it. Copies
    take turns on the PCIe link.
    High: the copy reaches 80 % of the link and overlaps with copies to the GPU.
    Copies that overlap with compute save nothing.

How to fix
    Copy into a pinned tensor with non_blocking=True, and read it after a later synchronisation. Or copy fewer bytes: reduce on
    the GPU (a mean, an argmax, the top k), or convert to 16 bits.

When it is wrong
    The rule promises too much if the CPU needs the values at once: then only the copy becomes faster. Pinned memory cannot be
    swapped out.

References
    https://pytorch.org/tutorials/intermediate/pinmem_nonblock.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.copies import Copies, PinnedRate, at_rate, pageable, pinned_rate, through_pinned
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.evidence.syncs import upload_syncs
from mfu_doctor.analysis.names.vocabulary import DEVICE_TO_HOST_PAGEABLE, TO_HOST
from mfu_doctor.analysis.replay.edits import AsyncCopies, Change, DropWaits, SetDevice, TwoWayLink
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import bandwidth, number, size_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds


@rule(
    "pageable-read",
    "HO032",
    "large results are copied to pageable memory",
    needs=(Need.DEVICE,),
    also=("device-to-host", "pinned-output", "download"),
)
def pageable_read(run: Run) -> Outcome:
    """Judge copies to pageable host memory."""
    steady = steady_of(run)
    every = pageable(run, DEVICE_TO_HOST_PAGEABLE)
    copies = every.only(steady.entries(run)[every.entry])
    start, end = run.activity.start[copies.entry], run.activity.end[copies.entry]
    exposed = steady.per_step(float(run.breakdown.owners["memory_copy"].overlap_with(start, end).sum()))
    if exposed < WORTH_SHARE * steady.step_ns:
        return None
    total = int(copies.size.sum())
    pinned = pinned_rate(run, copies, TO_HOST)
    return Finding(
        summary=f"GPU waits {steady.share(exposed)} of the step for copies to pageable memory "
        f"({number(steady.per_step(len(copies.entry)))} per step)",
        fix="out = torch.empty(x.shape, dtype=x.dtype, pin_memory=True); out.copy_(x, non_blocking=True)"
        "  # allocate out once, read it after the next synchronisation",
        detail=f"{size_of(steady.per_step(total))} per step at {bandwidth(copies.rate)}; pinned memory does not block the CPU "
        f"and {through_pinned(pinned)}; a mean, an argmax or a 16-bit copy made on the GPU is smaller",
        decides=Ends(
            low="the CPU needs the values at once",
            high="the CPU can read the values later, and the copy reaches 80 % of the link",
        ),
        change=_change(run, every, pinned),
        evidence=(
            shown("copies", steady.per_step(len(copies.entry)), "per step"),
            shown("bytes", steady.per_step(total), "bytes per step"),
            shown("bandwidth", copies.rate, "bytes/s"),
            shown("GPU waits for copies", seconds(exposed), "s"),
        ),
        place=run.places(copies.issuer(run)[:1])[0],
        symptom_of=("offloaded-state",),
    )


def _change(run: Run, copies: Copies, pinned: PinnedRate) -> Change:
    rows = run.activity.row[copies.entry]
    waits = DropWaits(upload_syncs(run, run.launches.call[copies.entry]))
    likely = at_rate(copies, pinned.likely)
    faster = SetDevice(rows, (likely + copies.duration_ns) // 2)
    best = AsyncCopies(rows, at_rate(copies, pinned.best))
    return Change((faster,), (AsyncCopies(rows, likely), waits), (best, waits, TwoWayLink()))
