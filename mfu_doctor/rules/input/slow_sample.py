"""A few batches take so long to load that the prefetch queue becomes empty.

What it measures
    Batches that take more than three times the median to load and more than a millisecond, if at most a third of the batches do.
    One such batch alone is a pattern only if other steps, timed without the profiler, are as long as its own.

Why it costs
    One huge image, one slow file or one worker on a busy core delays the step that waits for it, and with it all ranks.

How the gain is predicted
    Low: slow batches lose half of what they take above the median.
    Mid and high: they take the median.
    Replay shows how much of this time made the device wait.

How to fix
    A longer queue (prefetch_factor), batches of samples of similar size, or preprocess the slow samples once before training.

When it is wrong
    The rule is wrong if the whole machine paused: this looks the same. The first batch of an epoch is slow for another reason
    (cold-workers).

References
    https://pytorch.org/docs/stable/data.html#torch.utils.data.DataLoader
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.loading import is_pipelined, loader_facts
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ShortenHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number, share, time_of
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import NS_PER_MS, seconds

# A fetch is slow if it takes this many times the median (SageMaker Debugger uses 2, gpuprof 2.5) and more than LEAST_NS.
ABOVE_MEDIAN = 3.0
LEAST_NS = 1 * NS_PER_MS
# If more than this share of the fetches is slow, they are not exceptions: the loader as a whole is too slow.
EXCEPTIONS = 1 / 3
_FEW = 3  # a slow one and two that say what is usual: a default recording has three or four analysed steps
_LEAST_SLOW = 2  # slow fetches, or long steps with a slow one among them, that make a pattern
_DEFAULT_PREFETCH = 2  # batches per worker, torch.utils.data.DataLoader


@rule(
    "slow-sample",
    "IN005",
    "a few batches take much longer than the others",
    also=("prefetch-factor", "worker-imbalance"),
)
def slow_sample(run: Run) -> Outcome:
    """Judge the spread of the fetches."""
    steady = steady_of(run)
    rows = steady.issued(run, run.host.fetch_rows)
    if len(rows) < _FEW:
        return Skip(f"fewer than {_FEW} batches were loaded in the analysed steps: record more steps")
    start, end = run.trace.events.start[rows], run.trace.events.end[rows]
    length = end - start
    usual = int(np.median(length))
    slow = (length > ABOVE_MEDIAN * usual) & (length > LEAST_NS)
    often = max(int(slow.sum()), run.mean_step.long) if slow.any() else 0
    if often < _LEAST_SLOW or slow.mean() > EXCEPTIONS:
        return None
    excess = steady.per_step(float((length[slow] - usual).sum()))
    half = ShortenHost(start[slow], end[slow], (length[slow] + usual) // 2)
    even = ShortenHost(start[slow], end[slow], np.full(int(slow.sum()), usual))
    return Finding(
        summary=f"{number(int(slow.sum()))} of {len(rows)} batches take up to {time_of(float(length.max()))} to load, the others "
        f"{time_of(usual)}",
        fix=_fix(run),
        detail=f"they add {share(excess, steady.step_ns)} to the mean step",
        change=Change((half,), (even,), (even,)),
        evidence=(
            shown("slow batches", steady.per_step(int(slow.sum())), "per step"),
            shown("longest loading", seconds(float(length.max())), "s"),
            shown("median loading", seconds(usual), "s"),
        ),
        effort="setting",
        symptom_of=("input-bound", "cold-workers"),
        confidence="hint",
    )


def _fix(run: Run) -> str:
    loader = loader_facts(run)
    if not is_pipelined(run):
        return "DataLoader(..., num_workers=2, prefetch_factor=4)  # a prefetch queue hides slow batches"
    ahead = (loader.prefetch_factor if loader and loader.prefetch_factor else _DEFAULT_PREFETCH) * 2
    return f"DataLoader(..., prefetch_factor={ahead})  # a longer queue hides slow batches"
