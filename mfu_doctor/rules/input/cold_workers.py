"""Every epoch starts its loader workers anew, and training waits for them.

What it measures
    Fetches of at least 50 ms and five times the median, in a run whose loader has workers that are not persistent.

Why it costs
    A worker imports the program and rebuilds the dataset when it starts, and the first batch waits for that.

How the gain is predicted
    The long fetches take the median; low end: half of that. The saving is that of the recorded steps, so it is right
    where epochs are as short as the recording suggests.

How to fix
    DataLoader(..., persistent_workers=True).

When it is wrong
    Epochs that last hours: the start of workers does not matter then. Persistent workers keep their copy of the dataset.

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
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_MS, seconds

# Starting workers takes 0.05 to several seconds; a fetch this long and this much above the median is such a start.
START_NS = 50 * NS_PER_MS
ABOVE_MEDIAN = 5.0


@rule(
    "cold-workers",
    "IN004",
    "loader workers start again each epoch",
    needs=(Need.FACTS,),
    also=("persistent-workers", "epoch-start"),
)
def cold_workers(run: Run) -> Outcome:
    """Judge the fetches at the start of an epoch."""
    loader = loader_facts(run)
    if loader is None:
        return Skip("no DataLoader was seen during the recording")
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
        summary=f"{counted(int(cold.sum()), 'epoch start')} in the recording waited {time_of(float(length[cold].max()))} "
        f"for {loader.num_workers} new workers",
        fix=f"DataLoader(..., num_workers={loader.num_workers}, persistent_workers=True)",
        detail=f"other fetches take {time_of(usual)}; the saving is spread over the recorded steps",
        change=Change((half,), (warm,), (warm,)),
        evidence=(
            shown("longest fetch", seconds(float(length.max())), "s"),
            shown("median fetch", seconds(usual), "s"),
        ),
        effort="setting",
    )
