"""How a run gets its batches: how many workers there are, how fast they deliver, and what more of them would deliver.

Workers are a pipeline beside the step. One worker needs `batch_ns` for a batch, so `w` workers deliver one batch every
`batch_ns / w`. The step takes the larger of this and of the step without any waiting.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.steady_steps import Part, Rows, Steady, part_of, steady_of
from mfu_doctor.analysis.names.vocabulary import FETCH_MARK
from mfu_doctor.analysis.replay.edits import Edit, ScaleHost, ShortenHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.once import once
from mfu_doctor.facts import LoaderFacts
from mfu_doctor.units import NS_PER_S, NS_PER_US, seconds

# What fetching a ready batch from a worker costs the main thread: queue, unpickling, pinning. Measured on real traces:
# 100 to 300 us (V100 ResNet-50 with 4 workers: median 0.2 ms).
READY_FETCH_NS = 150 * NS_PER_US
# A spinning disk does about a hundred random reads a second, which for images of 100 kB is this rate; every other storage does
# more. Below it nothing that training waits for is limited by reading; logs and late imports stay far below it.
STORAGE_MATTERS = 10e6  # bytes/s
# Workers that have no batch ready never rest: they compute, or wait for storage. Those that use less than this share of a core
# each, and read nothing, rest.
_RESTING = 0.5
# Fetches that take less than this share of the time may be what taking a ready batch costs.
_SHORT_SHARE = 0.1
_WIDEST = 8  # bytes of a number as it may be stored: float64, int64
# A batch that has less than this share of what was read for it: no format stores a number in so many times its own bytes.
_FOR_NOTHING = 0.25
_SINGLE, _MULTI = "_SingleProcessDataLoaderIter", "_MultiProcessingDataLoaderIter"
_SEARCH_STEPS = 9  # most tries of the search for a fetch time
_FOUND = 0.001  # it ends when the step is so close to the wanted one


class Loading(Struct, frozen=True):
    """The data path of the steady steps; times in nanoseconds.

    Attributes:
        rows: fetch rows in the steady steps.
        workers: worker processes, None if neither the capture nor the span's name says.
        fetches: fetches per step.
        fetch_ns: mean length of a fetch on the main thread.
        waiting: what the device waits for data (on a CPU: what training waits).
        step_ns: the step.
        free_ns: the step if every batch were ready when asked for (by replay).
        batch_ns: what one batch costs one worker; None if the number of workers is unknown.
        cores: cores that this process may use, None if unknown.
        ready: share of the fetches for which a batch was ready; 0 without workers, or if nothing tells.
        least_ns: the step if no fetch waited: taking a batch that is ready costs what it costs (by replay).
    """

    rows: Rows
    workers: int | None
    fetches: float
    fetch_ns: float
    waiting: Part
    step_ns: float
    free_ns: float
    batch_ns: float | None
    cores: float | None
    ready: float
    least_ns: float


@once
def loading_of(run: Run) -> Loading | None:
    """The data path of a run, or None if no fetch was recorded in a steady step."""
    steady = steady_of(run)
    rows = steady.issued(run, run.host.fetch_rows)
    if not len(rows):
        return None
    events = run.trace.events
    length = events.end[rows] - events.start[rows]
    workers = workers_of(run)
    fetches = steady.per_step(len(rows))
    free = run.replay.step_ns((ScaleHost(run.host.fetch),))
    ready = _ready(run, workers, fetches * float(length.mean()) / run.replay.measured_ns)
    return Loading(
        rows=rows,
        workers=workers,
        fetches=fetches,
        fetch_ns=float(length.mean()),
        waiting=part_of(run, "data_loading"),
        step_ns=run.replay.measured_ns,
        free_ns=free,
        batch_ns=_batch_ns(workers, float(length.mean()), run.replay.measured_ns / fetches),
        cores=run.facts.host.usable_cores if run.facts and run.facts.host else None,
        ready=ready,
        least_ns=run.replay.step_ns((_keeping(run, _taking_ns(run, ready, length, fetches)),)) if ready else free,
    )


def _ready(run: Run, workers: int | None, fetching: float) -> float:
    """Share of the fetches that found a batch: as recorded, else all of them if the workers rest and fetches are short."""
    facts = loader_facts(run)
    if not workers or facts is None:
        return 0.0
    if facts.ready_share is not None:
        return facts.ready_share
    return 1.0 if fetching < _SHORT_SHARE and _rest(run, workers) else 0.0


def _taking_ns(run: Run, ready: float, length: Rows, fetches: float) -> float:
    """What a fetch takes that finds a batch: as recorded, else the median of the shortest fetches, as many as found one.

    All or none of a few recorded ones may have waited; those of the whole run are known where a step fetches once.
    """
    facts = loader_facts(run)
    if ready >= 1.0:
        return float(length.max())
    if facts is not None and facts.ready_wait_s is not None:
        return facts.ready_wait_s * NS_PER_S
    waits = run.facts.timed_waits_s if run.facts is not None and round(fetches) == 1 else ()
    return float(np.quantile(np.array(waits) * NS_PER_S if waits else length, ready / 2))


def _rest(run: Run, workers: int) -> bool:
    """Whether the workers are known to have had no work for most of the time: they used no core, and read nothing."""
    host = run.facts.host if run.facts else None
    if host is None or host.disk_read_bytes_s is None or host.disk_read_bytes_s >= STORAGE_MATTERS:
        return False
    most = host.worker_cpu_share
    if most is None and host.cpu_share is not None and host.usable_cores is not None:
        most = max(host.usable_cores - host.cpu_share, 0.0)  # on the cores of this process there is no room for more
    return most is not None and most < _RESTING * workers


class Reading(Struct, frozen=True):
    """What loading reads for a batch, in bytes: by calls that read files, and what the batch has at most."""

    read: float
    batch: float

    @property
    def share(self) -> float:
        """The part of it that the batch needs at most."""
        return min(self.batch / self.read, 1.0)


def read_again(run: Run, loading: Loading) -> Reading | None:
    """What is read for a batch, if that is so much more than the batch has that most of it is dropped; else None.

    Why it is dropped is not known: a file of many samples is read anew for each of them, or a sample is cut out of a larger one.
    """
    host, elements = (run.facts.host, run.facts.batch_elements) if run.facts is not None else (None, None)
    if host is None or not host.loading_read_bytes_s or not elements:
        return None
    read = host.loading_read_bytes_s * seconds(run.mean_step.stated_ns) / loading.fetches
    found = Reading(read, elements * _WIDEST)
    return found if found.share < _FOR_NOTHING else None


def loader_facts(run: Run) -> LoaderFacts | None:
    """The loader that was fetched from most, as the capture saw it."""
    if run.facts is None or not run.facts.loaders:
        return None
    return max(run.facts.loaders, key=lambda loader: loader.fetches)


def own_iterator(run: Run) -> str | None:
    """The class of the iterator that batches come from if it is not a DataLoader's (a generator, for instance), else None."""
    names = {run.trace.name_of(row) for row in run.host.fetch_rows.tolist()}
    facts = loader_facts(run)
    if names != {FETCH_MARK} or facts is None or "DataLoader" in facts.class_name:
        return None
    return facts.class_name


def has_data_loader(run: Run) -> bool:
    """Whether batches come from a DataLoader, as far as the run shows."""
    return len(run.host.fetch_rows) > 0 and own_iterator(run) is None


def workers_of(run: Run) -> int | None:
    """Worker processes of the run's loader: from the capture, else 0 if the span names the single-process iterator."""
    facts = loader_facts(run)
    if facts is not None:
        return facts.num_workers
    names = {run.trace.name_of(row) for row in run.host.fetch_rows.tolist()}
    return 0 if names and all(_SINGLE in name for name in names) else None


def is_pipelined(run: Run) -> bool:
    """Whether worker processes fetch ahead of the step."""
    workers = workers_of(run)
    if workers is not None:
        return workers > 0
    return any(_MULTI in run.trace.name_of(row) for row in run.host.fetch_rows.tolist())


def _batch_ns(workers: int | None, fetch_ns: float, period_ns: float) -> float | None:
    """One batch on one worker: the fetch itself without workers; with starved ones, one batch per worker and period."""
    if workers is None:
        return None
    return fetch_ns if workers == 0 else workers * period_ns


def deliver_every(run: Run, loading: Loading, period_ns: float, beside: tuple[Edit, ...] = ()) -> tuple[Edit, ...]:
    """The edits after which a batch is ready every `period_ns`: each fetch keeps just the wait that this leaves.

    Args:
        run: the run.
        loading: its data path.
        period_ns: the time from one batch to the next.
        beside: edits that change the rest of the step too; they are among the result.
    """
    free = run.replay.step_ns((*beside, ScaleHost(run.host.fetch))) if beside else loading.free_ns
    wanted = max(loading.fetches * period_ns, free)
    keep = float(READY_FETCH_NS)
    if wanted > free:
        step = run.replay.step_ns(beside) if beside else loading.step_ns
        keep = max(_search(run, beside, wanted, (free, step)), keep)
    return (*beside, _keeping(run, keep))


def _keeping(run: Run, keep_ns: float) -> ShortenHost:
    fetch = run.host.fetch
    return ShortenHost(fetch.start, fetch.end, np.minimum(fetch.lengths, int(keep_ns)))


def _search(run: Run, beside: tuple[Edit, ...], wanted_ns: float, ends: tuple[float, float]) -> float:
    """The time that each fetch must keep for the step to take `wanted_ns`, of `ends` with no fetch and with all of it.

    The step grows with it, in straight lines that bend where a wait hides, so following a line finds it in a few tries.
    """
    least, most = (0.0, ends[0]), (float(run.host.fetch.lengths.max()), ends[1])  # kept, step
    middle = least[0]
    for _ in range(_SEARCH_STEPS):
        if wanted_ns >= most[1]:
            return most[0]
        middle = least[0] + (wanted_ns - least[1]) / (most[1] - least[1]) * (most[0] - least[0])
        step = run.replay.step_ns((*beside, _keeping(run, middle)))
        if abs(step - wanted_ns) <= _FOUND * wanted_ns:
            break
        least, most = ((middle, step), most) if step < wanted_ns else (least, (middle, step))
    return middle


def steady_fetch_lengths(run: Run, steady: Steady) -> Rows:
    """Lengths in nanoseconds of the fetches in the steady steps, in order."""
    rows = steady.issued(run, run.host.fetch_rows)
    return run.trace.events.end[rows] - run.trace.events.start[rows]
