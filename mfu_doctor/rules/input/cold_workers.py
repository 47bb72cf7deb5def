"""Every epoch starts its DataLoader workers again, and training waits for them.

What it measures
    Batches that took more than 50 ms and more than five times the median to load. The rule looks only at DataLoaders
    that have workers without persistent_workers=True.

Why it costs
    A worker imports the program and builds the dataset again when it starts, and the first batch waits for that.

How the gain is predicted
    Low: the long loading times lose half of what they take above the median.
    Mid and high: they take the median.
    The saving is calculated for the recorded steps. It is correct only if epochs are as short as in the recording.

How to fix
    DataLoader(..., persistent_workers=True).

When it is wrong
    The rule promises too much if epochs last hours: then the start of workers hardly matters. Persistent workers keep their
    copy of the dataset in memory.

References
    https://pytorch.org/docs/stable/data.html#torch.utils.data.DataLoader
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.loading import loader_facts
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ShortenHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, time_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_MS, seconds

# Starting workers takes 0.05 to several seconds: a fetch this long and this far above the median is such a start.
START_NS = 50 * NS_PER_MS
ABOVE_MEDIAN = 5.0


@rule(
    "cold-workers",
    "IN004",
    "DataLoader workers start again in each epoch",
    needs=(Need.FACTS,),
    also=("persistent-workers", "epoch-start"),
)
def cold_workers(run: Run) -> Outcome:
    """Judge the fetches at the start of an epoch."""
    loader = loader_facts(run)
    if loader is None:
        return Skip("no DataLoader was used during the recording")
    if not loader.num_workers or loader.persistent_workers:
        return None
    steady = steady_of(run)
    rows = steady.issued(run, run.host.fetch_rows)
    start, end = run.trace.events.start[rows], run.trace.events.end[rows]
    length = end - start
    usual = int(np.median(length)) if len(rows) else 0
    cold = length > max(START_NS, ABOVE_MEDIAN * usual)
    if not cold.any():
        return None
    half = ShortenHost(start[cold], end[cold], (length[cold] + usual) // 2)
    warm = ShortenHost(start[cold], end[cold], np.full(int(cold.sum()), usual))
    return Finding(
        summary=f"Training waits up to {time_of(float(length[cold].max()))} for {loader.num_workers} new workers, "
        f"at {counted(int(cold.sum()), 'epoch start')} in the recording",
        fix=f"DataLoader(..., num_workers={loader.num_workers}, persistent_workers=True)",
        detail=f"other batches take {time_of(usual)}; the saving is an average over the recorded steps",
        decides=Ends(low="first batches stay half as slow as now", high="workers stay between epochs"),
        change=Change((half,), (warm,), (warm,)),
        evidence=(
            shown("longest loading of a batch", seconds(float(length.max())), "s"),
            shown("median loading of a batch", seconds(usual), "s"),
        ),
        effort="setting",
    )
