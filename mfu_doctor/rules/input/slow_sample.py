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
    If no recorded batch is slow, but some of the steps that were timed without the profiler waited long: the stated gain in
    samples per second is that of half as much of this wait.

How to fix
    A longer queue (prefetch_factor), batches of samples of similar size, or preprocess the slow samples once before training.

When it is wrong
    The rule is wrong if the whole machine paused: this looks the same. The first batch of an epoch is slow for another reason
    (cold-workers).

References
    https://pytorch.org/docs/stable/data.html#torch.utils.data.DataLoader
"""

from __future__ import annotations

from statistics import fmean

import numpy as np

from mfu_doctor.analysis.evidence.loading import is_pipelined, loader_facts
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ShortenHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import union
from mfu_doctor.quantities import counted, duration, number, share, time_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import NS_PER_MS, NS_PER_S, seconds

# A fetch is slow if it takes this many times the median (SageMaker Debugger uses 2, gpuprof 2.5) and more than LEAST_NS.
ABOVE_MEDIAN = 3.0
LEAST_NS = 1 * NS_PER_MS
# If more than this share of the fetches is slow, they are not exceptions: the loader as a whole is too slow.
EXCEPTIONS = 1 / 3
_FEW = 3  # a slow one and two that say what is usual: a default recording has three or four analysed steps
_HALF = 0.5
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
        return _in_the_run(run)
    excess = steady.host_ns(union(start[slow] + usual, end[slow]))
    half = ShortenHost(start[slow], end[slow], (length[slow] + usual) // 2)
    even = ShortenHost(start[slow], end[slow], np.full(int(slow.sum()), usual))
    return Finding(
        summary=f"{number(int(slow.sum()))} of {len(rows)} batches take up to {time_of(float(length.max()))} to load, the others "
        f"{time_of(usual)}",
        fix=_fix(run),
        detail=f"they add {share(excess, steady.step_ns)} to the mean step",
        decides=Ends(low="they lose half of what they take more", high="slow batches take as long as the others"),
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


def _in_the_run(run: Run) -> Outcome:
    """The same of all steps that were timed without the profiler: one slow batch in fifty is rarely recorded."""
    facts = run.facts
    if facts is None or not facts.timed_waits_s:
        return None
    waits, step_s = np.array(facts.timed_waits_s), fmean(facts.timed_steps_s)
    usual = float(np.median(waits))
    slow = (waits > ABOVE_MEDIAN * usual) & (waits * NS_PER_S > LEAST_NS)
    excess = float((waits[slow] - usual).sum()) / len(waits)
    if slow.sum() < _LEAST_SLOW or slow.mean() > EXCEPTIONS or _HALF * excess < WORTH_SHARE * step_s:
        return None
    return Finding(
        summary=f"{counted(int(slow.sum()), 'step')} of {number(len(waits))} waited up to {duration(float(waits.max()))} "
        f"for data, the others {duration(usual)}",
        fix=_fix(run),
        detail=f"they add {share(excess, step_s)} to the mean step; the gain is that of half as much",
        evidence=(
            shown("steps that waited long", int(slow.sum()), "count"),
            shown("longest wait", float(waits.max()), "s"),
            shown("median wait", usual, "s"),
        ),
        effort="setting",
        symptom_of=("input-bound", "cold-workers"),
        throughput_gain=1.0 / (1.0 - _HALF * excess / step_s) - 1.0,
        outside_share=_HALF * excess / step_s,
    )


def _fix(run: Run) -> str:
    loader = loader_facts(run)
    if not is_pipelined(run):
        return "DataLoader(..., num_workers=2, prefetch_factor=4)  # a prefetch queue hides slow batches"
    ahead = (loader.prefetch_factor if loader and loader.prefetch_factor else _DEFAULT_PREFETCH) * 2
    return f"DataLoader(..., prefetch_factor={ahead})  # a longer queue hides slow batches"
