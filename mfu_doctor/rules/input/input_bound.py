"""The device waits for the DataLoader. With more workers the next batch would be ready in time.

What it measures
    The time in which the device is idle while the main thread loads a batch. In a CPU-only run: the time of loading itself.
    Taking a batch that workers have ready is no wait: mfu_doctor.profile() records how often one was ready, and how long taking
    it took. That much stays of each fetch; what is more counts with its time, however few batches are late. Where that is not
    recorded, short fetches from workers that neither compute nor read from storage are no wait either.
    And the number of worker processes, as mfu_doctor.profile() recorded it or from the name of the DataLoader event.

Why it costs
    With num_workers=0, loading and training run one after the other. With too few workers the prefetch queue is empty, and the
    step takes as long as loading one batch.

How the gain is predicted
    t_w is the time that one worker needs for one batch. With num_workers=0 it is the loading time. With w workers that cannot
    keep up, it is w times the step time. Then w' workers deliver a batch every t_w / w'. The step takes the longest of: that
    time, the step without any waiting, and (CPU time of training + CPU time of loading) / cores. Replay finds the step without
    waiting: it simulates the recorded timeline again with the wait removed. Loading that overlaps with GPU work saves nothing.
    Low: two workers, or half of the additional workers.
    Mid: as many workers as the step needs, but not more than find a core: workers that mostly wait, for a disk or a network, can
    be more than there are cores. Where nothing tells what loading computes, each takes a core. Where the training thread of a
    GPU run then limits the step, it is slower beside new workers (1.2 times, measured once), at the low end and in the middle.
    High: every batch is ready in time, as far as the cores allow.
    In a CPU-only run whose operators use all cores, the step also becomes longer by a part of the CPU time of loading: the part
    of the time in which training uses more than one core (low: half-way between this and all of it; high: none).
    If workers remove less than half of the wait, cheaper loading is advised instead: low a quarter less CPU time per batch, mid
    half of it, high none left. How much can really be saved depends on the transforms. If samples of the stacks of what loads
    (workers, else the training thread) show that it reads, decodes or tokenizes, that part is gone at all ends; putting batches
    together stays.
    If more than four times of what a batch has is read for it, cheaper loading reads less: low half of loading stays, mid the
    part that the batch needs at most. Running workers then also give back to training what it waits for their cores.

How to fix
    DataLoader(num_workers=N, persistent_workers=True), with pin_memory=True if a GPU trains. If all cores are already busy,
    more workers do not help: decode each sample once and keep it, make the transforms cheaper (NumPy or torch instead of loops,
    smaller images), decode on the GPU, or leave a core to the workers with torch.set_num_threads(). If batches are read from
    storage, read the data set once before training, keep it on local NVMe, or store less of it.

When it is wrong
    The rule promises too much if all workers read from one slow disk. If data was read from storage during the steps without
    the profiler, the finding shows the rate. It does not show how much of the wait this causes: while the page cache still
    fills, only the first epoch is slow. Some network and user-space file systems count no reads. A loader that is not a
    DataLoader (a generator) needs its own prefetching. The rule uses the mean time per batch. For batches with very different
    times see slow-sample.

References
    https://pytorch.org/docs/stable/data.html#multi-process-data-loading
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.cheaper_loading import cheaper_ends, how_cheaper, stays_known, told_of
from mfu_doctor.analysis.evidence.forward_only import is_forward_only
from mfu_doctor.analysis.evidence.given_back import given_back
from mfu_doctor.analysis.evidence.loader_cores import (
    HIGH,
    LOW,
    MID,
    LoaderCores,
    busy_share,
    loader_cores,
    taken_by_others,
    with_cheaper_loading,
    with_workers,
    workers_wanted,
)
from mfu_doctor.analysis.evidence.loading import (
    STORAGE_MATTERS,
    Loading,
    Reading,
    deliver_every,
    is_pipelined,
    loader_facts,
    loading_of,
    own_iterator,
    read_again,
)
from mfu_doctor.analysis.evidence.loading_lines import (
    LoadingLines,
    loading_lines,
)
from mfu_doctor.analysis.replay.edits import Change, PaceWorkers
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.core_waits import LOADER
from mfu_doctor.quantities import bandwidth, counted, number, share, time_of
from mfu_doctor.result.findings import Ends, Evidence
from mfu_doctor.rules.contract import WORTH_SHARE, Confidence, Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import seconds

# The cores count as busy from this share on; a scheduler never reaches all of them.
SATURATED = 0.95


_WORKER_ENDS = Ends(low="only half of these workers find a free core", high="each batch is ready in time")


@rule(
    "input-bound",
    "IN001",
    "the device waits for data",
    also=(
        "num-workers",
        "collate",
        "main-thread-transforms",
        "saturated-loader",
        "page-cache",
        "cold-cache",
        "disk-io",
    ),
)
def input_bound(run: Run) -> Outcome:
    """Judge the data path."""
    loading = loading_of(run)
    if loading is None:
        return Skip(
            "no loading of a batch was recorded"
            if is_forward_only(run)
            else "no loading of a batch was recorded: use a DataLoader, or wrap the loader in doctor.batches(loader)"
        )
    if min(loading.waiting.mean_ns, loading.step_ns - loading.least_ns) < WORTH_SHARE * loading.step_ns:
        return None
    cores = loader_cores(run, loading)
    wanted = workers_wanted(loading, cores)
    few = _fewer(loading, wanted)
    again = read_again(run, loading)
    cheaper = _workers_do_little(run, loading, cores, wanted)
    who = "Training" if run.is_cpu else "GPU"
    lines = loading_lines(run)
    storage = _from_storage(run)
    return Finding(
        summary=f"{who} waits for data {loading.waiting.of_step}",
        fix=how_cheaper(lines, again) if cheaper else _fix(run, loading, wanted),
        detail=_detail(loading, storage)
        + ("" if cheaper else _stays(loading, cores, wanted))
        + (f"; {lines.takes}" if lines is not None else "")
        + (f"; {told_of(again)}" if again is not None else "")
        + (f"; {_no_core(run, loading, cores)}" if cheaper else ""),
        decides=cheaper_ends(lines, again) if cheaper else _WORKER_ENDS,
        change=_cheaper_change(run, loading, cores) if cheaper else _change(run, loading, cores, (few, wanted)),
        evidence=_evidence(loading, storage, cores),
        place=_place(run, loading, lines, again if cheaper else None),
        symptom_of=("restarted-loader",),
        effort="refactor" if cheaper else "line",
        confidence=_confidence(loading, cores, wanted, cheaper=cheaper, known=stays_known(lines, again)),
    )


def _place(run: Run, loading: Loading, lines: LoadingLines | None, again: Reading | None) -> str | None:
    """The line that loads; if nobody saw it in workers, the dataset's where what it reads is the fault."""
    facts = loader_facts(run)
    if lines is not None:
        return lines.place
    loop = run.places(loading.rows[:1])[0]
    return (facts.sample_place if again is not None and facts is not None else None) or loop


def _confidence(loading: Loading, cores: LoaderCores, wanted: int, *, cheaper: bool, known: bool) -> Confidence:
    if cheaper:
        return "modelled" if known else "hint"
    # what more workers deliver is calculated where nothing tells how many there are now, and what stays where cores are few
    all_goes = loading.batch_ns is not None and with_workers(loading, cores, wanted, MID) <= loading.free_ns
    return "measured" if all_goes and not cores.slows else "modelled"


def _workers_do_little(run: Run, loading: Loading, cores: LoaderCores, wanted: int) -> bool:
    """Whether more workers leave most of the wait, although less CPU time per batch would not.

    Of workers it must be known that they compute: those that wait for storage leave the CPU alone.
    """
    if loading.workers is None or (loading.workers and not cores.loading_known and not _saturated(run, loading)):
        return False
    left = with_workers(loading, cores, wanted, MID)
    return 2 * (loading.step_ns - left) < loading.step_ns - loading.least_ns and (
        with_cheaper_loading(loading, cores, MID) < left
    )


def _fewer(loading: Loading, wanted: int) -> int:
    """Workers of the low end."""
    now = loading.workers or 0
    return min(2 if now == 0 else now + max((wanted - now) // 2, 1), max(wanted, 1))


def _change(run: Run, loading: Loading, cores: LoaderCores, workers: tuple[int, int]) -> Change:
    if loading.batch_ns is None:  # number of workers unknown: twice as many halve the period
        ready = deliver_every(run, loading, 0.0)
        return Change(deliver_every(run, loading, loading.step_ns / loading.fetches / 2), ready, ready)
    few, wanted = workers
    least = max(loading.least_ns, min(cores.least_ns(HIGH), loading.step_ns))
    steps = (with_workers(loading, cores, few, LOW), with_workers(loading, cores, wanted, MID), least)
    return _changes(run, loading, steps)


def _cheaper_change(run: Run, loading: Loading, cores: LoaderCores) -> Change:
    """Batches come sooner, and workers that run already give cores back to training."""
    low, mid, high = (with_cheaper_loading(loading, cores, end) for end in (LOW, MID, HIGH))
    sooner, waits = _changes(run, loading, (low, mid, high)), run.core_waits
    if not loading.workers or isinstance(waits, str):
        return sooner
    ends = zip((sooner.low, sooner.mid, sooner.high), waits.because_of(LOADER), cores.cheaper, strict=True)
    return Change(*((*edits, PaceWorkers(left), given_back(run, (1.0 - left) * delay)) for edits, delay, left in ends))


def _changes(run: Run, loading: Loading, steps: tuple[float, float, float]) -> Change:
    """The edits after which a step takes so many nanoseconds, at the three ends."""
    return Change(*(deliver_every(run, loading, step / loading.fetches) for step in steps))


def _no_core(run: Run, loading: Loading, cores: LoaderCores) -> str:
    """Why more workers would bring less than cheaper loading."""
    if loading.cores and _saturated(run, loading):
        return f"{number(_used(run))} of {number(loading.cores)} cores are busy, so more workers do not help"
    if cores.busy and not loading.workers:
        return "training uses all cores, so workers take from it what they compute" + _own_core(loading, cores)
    return "the cores limit what more workers deliver"


def _used(run: Run) -> float:
    """Cores that this process, its workers and others kept busy, as far as it is known and nobody gives way."""
    host = run.facts.host if run.facts else None
    return (host.cpu_share or 0.0) + (host.worker_cpu_share or 0.0) + taken_by_others(run) if host else 0.0


def _saturated(run: Run, loading: Loading) -> bool:
    return bool(loading.workers and loading.cores and _used(run) >= SATURATED * loading.cores)


def _own_core(loading: Loading, cores: LoaderCores) -> str:
    """What fewer threads of training would bring, if that is anything: one worker then has a core of its own."""
    left = int(cores.count or 1) - 1
    if not left:
        return ""
    step_ns = max(cores.training_ns / left, cores.loading_ns[MID])
    if loading.step_ns - step_ns < WORTH_SHARE * loading.step_ns:
        return ""
    threads = f"torch.set_num_threads({left}) and num_workers=1"
    return f"; {threads} leave a worker a core of its own: then a step takes about {time_of(step_ns)}"


def _fix(run: Run, loading: Loading, wanted: int) -> str:
    if loading.workers is None and is_pipelined(run):
        return "# give the DataLoader twice as many workers as it has now, with persistent_workers=True"
    options = [f"num_workers={wanted}"]
    if not run.is_cpu:
        options.append("pin_memory=True")
    called, own = ", ".join([*options, "persistent_workers=True"]), own_iterator(run)
    return f"DataLoader(..., {called})" if own is None else f"DataLoader(dataset, {called})  # in place of the {own}"


def _from_storage(run: Run) -> float | None:
    """Bytes per second that the process and its workers read from storage; None if unknown or too few to wait for."""
    host = run.facts.host if run.facts is not None else None
    rate = host.disk_read_bytes_s if host is not None else None
    return rate if rate is not None and rate >= STORAGE_MATTERS else None


def _detail(loading: Loading, storage: float | None) -> str:
    needed = f"without this wait, training needs one every {time_of(loading.free_ns / loading.fetches)}"
    if storage is not None:
        needed += f"; {bandwidth(storage)} are read from storage: if that is the limit, more workers do not help"
    if loading.workers == 0:
        return f"the main process loads a batch in {time_of(loading.fetch_ns)} (num_workers=0); {needed}"
    by = "the DataLoader delivers"
    if loading.workers:
        by = f"{counted(loading.workers, 'worker')} {'delivers' if loading.workers == 1 else 'deliver'}"
    ready = f"; {share(loading.ready, 1.0)} of the batches were ready: workers bring none of those sooner"
    told = f"{by} a batch every {time_of(loading.step_ns / loading.fetches)}; {needed}"
    return told + (ready if loading.ready else "")


def _stays(loading: Loading, cores: LoaderCores, wanted: int) -> str:
    """What of the wait so many workers leave: they take from the cores of training, or deliver too slowly still."""
    if loading.batch_ns is None:
        return ""
    busy, left = busy_share(loading, cores), with_workers(loading, cores, wanted, MID) - loading.free_ns
    said = ""
    if loading.cores and wanted > loading.cores:
        said = f"; a worker computes {share(busy, 1.0)} of the time, so there can be more of them than cores"
    if left >= WORTH_SHARE * loading.step_ns:
        said += f", and {counted(wanted, 'worker')} {'leaves' if wanted == 1 else 'leave'} {time_of(left)} of the wait"
    return said


def _evidence(loading: Loading, storage: float | None, cores: LoaderCores) -> tuple[Evidence, ...]:
    found = [
        shown("waiting for data", seconds(loading.waiting.mean_ns), "s"),
        shown("loading one batch", seconds(loading.fetch_ns), "s"),
        shown("batches per step", loading.fetches, "count"),
        shown("step without waiting for data", seconds(loading.free_ns), "s"),
    ]
    if loading.workers is not None:
        found.append(shown("workers", loading.workers, "count"))
    if loading.cores is not None:
        found.append(shown("cores", loading.cores, "count"))
    if cores.loading_known and loading.workers is not None:
        found.append(shown("CPU time of loading per step", seconds(cores.loading_ns[MID]), "s"))
    if storage is not None:
        found.append(shown("read from storage", storage, "bytes/s"))
    return tuple(found)
