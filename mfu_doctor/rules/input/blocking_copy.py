"""Batches are copied to the device while it has nothing else to do.

What it measures
    Copies from pinned memory to the device of at least 64 KiB, the part of them in which no kernel runs, and the
    synchronisations that follow them inside the same operator.

Why it costs
    A copy on the stream that computes takes its turn there. On a stream of its own, and issued one batch ahead, it runs
    beside the computation.

How the gain is predicted
    Low end: the copies no longer make the host wait (where they do); mid and high: they run on a stream of their own as
    soon as they are issued. Replay decides what of that was on the critical path.

How to fix
    Copy with non_blocking=True on a side stream, one batch ahead (a prefetcher of ten lines, or the one of your
    framework).

When it is wrong
    A copy that waits for its data cannot start earlier. Where the link itself is the bottleneck, send fewer bytes
    (wide-batch).

References
    https://pytorch.org/tutorials/intermediate/pinmem_nonblock.html
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.copies import copies_matching, without_optimizer
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.evidence.syncs import upload_syncs
from mfu_doctor.analysis.replay.edits import AsyncCopies, Change, DropWaits, MoveToStream
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, size_of
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_PINNED = re.compile(r"HtoD(?!.*Pageable)|Host -> Device")
# Smaller copies are latency, and belong to host-made-tensor.
LEAST_BYTES = 64 * 1024
# A copy that blocks the host can cost much more than it takes, which replay prices: so this is far below what is worth a fix.
EXPOSED_SHARE = 0.001


@rule(
    "blocking-copy",
    "IN003",
    "copies of batches are not hidden",
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
    waits = upload_syncs(run, np.unique(calls[calls >= 0]))
    unblocked = (AsyncCopies(rows, every.duration_ns), DropWaits(waits))
    hidden = (*unblocked, MoveToStream(rows))
    blocked = len(steady.issued(run, waits))
    return Finding(
        summary=f"Copies of {size_of(steady.per_step(float(copies.size.sum())))} to the GPU are exposed "
        f"{steady.share(exposed)} of the step",
        fix="with torch.cuda.stream(copy_stream): next_batch = batch.to(device, non_blocking=True)",
        detail="copy_stream = torch.cuda.Stream(), and torch.cuda.current_stream().wait_stream(copy_stream) before its use"
        + (f"; the host waits for {counted(steady.per_step(blocked), 'copy')} a step" if blocked else ""),
        change=Change(unblocked if blocked else hidden, hidden, hidden),
        evidence=(
            shown("copies", steady.per_step(len(copies.entry)), "per step"),
            shown("exposed", seconds(exposed), "s"),
            shown("waited for", steady.per_step(blocked), "per step"),
        ),
        place=run.places(copies.issuer(run)[:1])[0],
        effort="refactor",
    )
