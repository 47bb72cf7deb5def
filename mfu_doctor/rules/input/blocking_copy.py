"""Batches are copied to the GPU while it has nothing else to do.

What it measures
    Copies of at least 64 KiB from pinned memory to the GPU, the part of them in which no kernel runs, and the
    synchronisations that follow them inside the same operator.

Why it costs
    A copy on the compute stream runs between the kernels. On a separate stream, and issued one batch ahead, it overlaps with
    compute.

How the gain is predicted
    Low: the copies no longer block the CPU. If none of them does, low is the same as mid.
    Mid: the copies run on a separate stream as soon as they are issued, but not at the same time as other large copies.
    High: they also overlap with copies in the other direction.
    Replay shows how much of this time was on the critical path.

How to fix
    Copy with non_blocking=True on a separate stream, one batch ahead (a prefetcher of ten lines, or the one of your
    framework).

When it is wrong
    The rule is wrong if a copy has to wait for its data: then it cannot start earlier. If PCIe itself is the bottleneck, copy
    fewer bytes (wide-batch).

References
    https://pytorch.org/tutorials/intermediate/pinmem_nonblock.html
"""

from __future__ import annotations

import re

from mfu_doctor.analysis.evidence.copies import copies_matching, without_optimizer
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.evidence.syncs import upload_syncs
from mfu_doctor.analysis.replay.edits import AsyncCopies, Change, DropWaits, MoveToStream, TwoWayLink
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, size_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_PINNED = re.compile(r"HtoD(?!.*Pageable)|Host -> Device")
# Smaller copies cost latency and no bandwidth: host-made-tensor looks at them.
LEAST_BYTES = 64 * 1024
# A copy that blocks the host can cost much more than its own time, as replay shows: so this is far below WORTH_SHARE.
EXPOSED_SHARE = 0.001


@rule(
    "blocking-copy",
    "IN003",
    "copies of batches do not overlap with compute",
    needs=(Need.DEVICE,),
    also=("non-blocking", "prefetch-stream"),
)
def blocking_copy(run: Run) -> Outcome:
    """Judge copies from pinned memory."""
    steady = steady_of(run)
    every = without_optimizer(run, copies_matching(run, _PINNED, LEAST_BYTES))
    copies = every.only(steady.entries(run)[every.entry])
    start, end = run.activity.start[copies.entry], run.activity.end[copies.entry]
    exposed = steady.per_step(float(run.breakdown.owners["memory_copy"].overlap_with(start, end).sum()))
    if exposed <= EXPOSED_SHARE * steady.step_ns:
        return None
    rows, calls = run.activity.row[every.entry], run.launches.call[every.entry]
    waits = upload_syncs(run, calls)
    unblocked = (AsyncCopies(rows, every.duration_ns), DropWaits(waits))
    hidden = (*unblocked, MoveToStream(rows))
    blocked = len(steady.issued(run, waits))
    return Finding(
        summary=f"GPU waits {steady.share(exposed)} of the step for copies from pinned memory "
        f"({size_of(steady.per_step(float(copies.size.sum())))} per step)",
        fix="with torch.cuda.stream(copy_stream): next_batch = batch.to(device, non_blocking=True)",
        detail="copy_stream = torch.cuda.Stream(), and torch.cuda.current_stream().wait_stream(copy_stream) before its use"
        + (f"; the CPU waits for {counted(steady.per_step(blocked), 'copy')} per step" if blocked else ""),
        confidence="measured",
        decides=Ends(low="copies only no longer block the CPU", high="copies in both directions overlap with compute"),
        change=Change(unblocked if blocked else hidden, hidden, (*hidden, TwoWayLink())),
        evidence=(
            shown("copies", steady.per_step(len(copies.entry)), "per step"),
            shown("GPU waits for copies", seconds(exposed), "s"),
            shown("copies that block the CPU", steady.per_step(blocked), "per step"),
        ),
        place=run.places(copies.issuer(run)[:1])[0],
        effort="refactor",
    )
