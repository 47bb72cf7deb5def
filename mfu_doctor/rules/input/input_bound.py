"""The device waits for data that a DataLoader with more workers would have had ready.

What it measures
    The time in which the device is idle while the training thread fetches a batch (on a CPU-only run: the time of the fetch
    itself), and the number of worker processes behind it, from the capture or from the name of the fetch's span.

Why it costs
    With num_workers=0 loading and training take turns. With too few workers the queue of ready batches runs empty and the
    step takes as long as a batch does.

How the gain is predicted
    One batch costs one worker t_w: the fetch itself where there are no workers, w times the step where w starved workers
    are at work. With w' workers a batch is ready every t_w / w', and the step becomes max(step without any waiting, t_w / w').
    Replay finds the step without waiting, so a fetch that hides behind a busy device saves nothing. Low end: two workers (or
    half of the additional ones); mid: the workers that the step needs, as far as there are cores; high: every batch ready.
    On a CPU-only run workers share the cores with training; what they take is subtracted.

How to fix
    DataLoader(num_workers=N, persistent_workers=True), with pin_memory=True where a GPU trains. Where the CPU is already
    saturated more workers deliver no more: make the transforms cheaper, or decode on the GPU. Where batches come from storage,
    read the data set once before training, keep it on local NVMe, or store less of it.

When it is wrong
    Workers that share one slow disk do not scale. Where the un-profiled steps read from storage the finding says how much, but
    not what of the wait that is: a cache that fills costs the first epoch only. Some network and user-space file systems count
    no reads. A loader that is no DataLoader (a generator) needs its own prefetching. Batches that take very different times
    hide in a mean; slow-sample looks at those.

References
    https://pytorch.org/docs/stable/data.html#multi-process-data-loading
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.loading import (
    Loading,
    busy_share,
    deliver_every,
    is_pipelined,
    loading_of,
    shared_core_period,
)
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import bandwidth, number, time_of
from mfu_doctor.result.findings import Evidence
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import seconds

# The CPU counts as saturated when this share of the cores is busy; a scheduler never reaches all of them.
SATURATED = 0.95
# A spinning disk does about a hundred random reads a second, which for images of 100 kB is this rate; every other storage does
# more. Below it nothing that training waits for is limited by reading; logs and late imports stay far below it.
STORAGE_MATTERS = 10e6  # bytes/s
# Without figures of the process, half of a worker's time is taken as work for a core.
UNKNOWN_BUSY = 0.5


@rule(
    "input-bound",
    "IN001",
    "the device waits for data",
    also=("num-workers", "collate", "main-thread-transforms", "saturated-loader", "page-cache", "disk-io"),
)
def input_bound(run: Run) -> Outcome:
    """Judge the data path."""
    loading = loading_of(run)
    if loading is None:
        return Skip("no data fetch was recorded: iterate a DataLoader, or wrap the loader in doctor.batches(loader)")
    if is_pipelined(run) and loading.waiting.mean_ns < WORTH_SHARE * loading.step_ns:
        return None
    wanted = _recommended(loading)
    who = "Training" if run.is_cpu else "GPU"
    storage = _from_storage(run)
    return Finding(
        summary=f"{who} waits for data {loading.waiting.of_step}",
        fix=_fix(run, f"{wanted}" if loading.workers is not None or not is_pipelined(run) else "2 * num_workers"),
        detail=_detail(loading, storage),
        change=_change(run, loading, wanted),
        evidence=_evidence(loading, storage),
        place=run.places(loading.rows[:1])[0],
        withhold=_saturated(run, loading),
    )


def _recommended(loading: Loading) -> int:
    """Workers that the step needs, no more than there are cores; twice as many where their number is unknown."""
    needed = loading.workers_needed
    if needed is None:
        return 2
    if loading.workers:
        needed = max(needed, loading.workers + 1)
    return min(needed, max(int(loading.cores), 1)) if loading.cores else needed


def _change(run: Run, loading: Loading, wanted: int) -> Change:
    ready = deliver_every(run, loading, 0.0)
    if loading.batch_ns is None:  # workers unknown: twice as many halve the period
        return Change(deliver_every(run, loading, loading.step_ns / loading.fetches / 2), ready, ready)
    now = loading.workers or 0
    few = 2 if now == 0 else now + max((wanted - now) // 2, 1)
    known = busy_share(run, loading)
    middle = UNKNOWN_BUSY if known is None else known
    low = max(loading.batch_ns / min(few, max(wanted, 1)), shared_core_period(run, loading, middle if known else 1.0))
    mid = max(loading.batch_ns / wanted, shared_core_period(run, loading, middle))
    return Change(deliver_every(run, loading, low), deliver_every(run, loading, mid), ready)


def _saturated(run: Run, loading: Loading) -> str | None:
    host = run.facts.host if run.facts else None
    if host is None or host.cpu_share is None or not loading.cores or not loading.workers:
        return None
    used = host.cpu_share + (host.other_cpu_share or 0.0)
    if used < SATURATED * loading.cores:
        return None
    return (
        f"{number(used)} of {number(loading.cores)} cores are busy, so more workers would deliver no more; "
        "make the transforms cheaper or decode on the GPU"
    )


def _fix(run: Run, wanted: str) -> str:
    options = [f"num_workers={wanted}"]
    if not run.is_cpu:
        options.append("pin_memory=True")
    return f"DataLoader(..., {', '.join([*options, 'persistent_workers=True'])})"


def _from_storage(run: Run) -> float | None:
    """Bytes per second that the process and its workers read from storage, where that is enough to wait for."""
    host = run.facts.host if run.facts is not None else None
    rate = host.disk_read_bytes_s if host is not None else None
    return rate if rate is not None and rate >= STORAGE_MATTERS else None


def _detail(loading: Loading, storage: float | None) -> str:
    could = f"the step could take one each {time_of(loading.free_ns / loading.fetches)}"
    if storage is not None:
        could += f"; {bandwidth(storage)} come from storage: where that is the limit, more workers do not help"
    if loading.workers == 0:
        return f"the training thread loads each batch itself in {time_of(loading.fetch_ns)}; {could}"
    by = f"{loading.workers} workers deliver" if loading.workers else "the loader delivers"
    return f"{by} a batch each {time_of(loading.step_ns / loading.fetches)}; {could}"


def _evidence(loading: Loading, storage: float | None) -> tuple[Evidence, ...]:
    found = [
        shown("waiting for data", seconds(loading.waiting.stated_ns), "s"),
        shown("fetch", seconds(loading.fetch_ns), "s"),
        shown("fetches per step", loading.fetches, "count"),
        shown("step with every batch ready", seconds(loading.free_ns), "s"),
    ]
    if loading.workers is not None:
        found.append(shown("workers", loading.workers, "count"))
    if loading.cores is not None:
        found.append(shown("cores", loading.cores, "count"))
    if storage is not None:
        found.append(shown("read from storage", storage, "bytes/s"))
    return tuple(found)
