"""Training waits for batches that come from storage: the page cache is cold, or too small for the data.

What it measures
    What the process and its loader workers read from storage during the un-profiled steps, the time in which training waits for
    data, and the median of the last third of those steps against that of the first third.

Why it costs
    Memory delivers a file ten times as fast as storage or more. The first pass over the data reads everything from storage; each
    pass does where memory does not hold it all, or where other programs push it out.

How the gain is predicted
    The last steps over the first ones is the measured ratio of warm to cold. A warm cache takes away that part of the wait,
    D (1 - warm/cold), and no more than the usual step takes above a warm one (mid); half of it (low); all fetches (high). Replay
    gives the step, so a fetch that hides behind a busy device saves nothing. Where steps did not get faster, or fewer than nine
    were timed, no ratio is known: nothing is promised, and the advice is withheld with what it could be worth.

How to fix
    Read the data set once before training where memory holds it. Else keep it on local NVMe, or store less: larger files that are
    read in order, smaller formats, images at the size that training uses.

When it is wrong
    A cache that fills by itself costs the first epoch only; the saving is that of steps that still read from storage. Steps also
    get faster for other reasons, such as a machine that falls quiet. Some network and user-space file systems count no reads, so
    this is silent there. Swapping is not told apart.

References
    https://docs.kernel.org/filesystems/proc.html (/proc/<pid>/io); https://docs.kernel.org/admin-guide/mm/concepts.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.loading import Loading, loading_of
from mfu_doctor.analysis.evidence.page_cache import STORAGE_MATTERS, Warming, storage_rate, warming_of
from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import bandwidth, counted, size_of, time_of
from mfu_doctor.result.report import Evidence
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_S, seconds

# The low end is half of what a warm cache takes from the wait; to save 1 % of the step it needs a wait of at least this.
WAITS_SHARE = 0.02
_LOW = 0.5
_TIME_MORE = 30  # steps that show a cache filling: ten in each third


@rule(
    "cold-cache",
    "IN008",
    "batches come from storage, not from memory",
    needs=(Need.FACTS,),
    also=("page-cache", "disk-io"),
)
def cold_cache(run: Run) -> Outcome:
    """Judge what is read from storage while training waits for data."""
    loading = loading_of(run)
    if loading is None:
        return Skip("no data fetch was recorded: iterate a DataLoader, or wrap the loader in doctor.batches(loader)")
    if loading.waiting.mean_ns < WAITS_SHARE * loading.step_ns:
        return None
    rate = storage_rate(run)
    if rate is None:
        return Skip("disk reads are not known here: /proc/<pid>/io is not readable, or counts nothing")
    if rate < STORAGE_MATTERS:
        return None
    warming = warming_of(run)
    measured = warming if warming is not None and warming.got_faster else None
    told = bandwidth(rate)
    return Finding(
        summary=f"{'Training' if run.is_cpu else 'GPU'} waits for data {loading.waiting.of_step}: {told} come from storage"
        + (f", and steps fell from {_steps(measured)} as the cache filled" if measured is not None else ""),
        fix=_fix(told, fits=warming is None or warming.got_faster),
        detail=_detail(run, measured),
        change=_change(run, loading, measured),
        evidence=_evidence(loading, rate, warming),
        effort="refactor",
        confidence="modelled" if measured is not None else "hint",
        place=run.places(loading.rows[:1])[0],
        withhold=_unmeasured(run, warming) if measured is None else None,
    )


def _change(run: Run, loading: Loading, measured: Warming | None) -> Change:
    every: tuple[Edit, ...] = (ScaleHost(run.host.fetch),)
    if measured is None:
        none: tuple[Edit, ...] = (ScaleHost(run.host.fetch, 1.0),)
        return Change(none, none, every)
    waited_ns = max(loading.step_ns - loading.free_ns, 1.0)
    gone = min(1.0 - measured.ratio, measured.usual_excess * loading.step_ns / waited_ns)  # share of the wait
    exposed = min(loading.waiting.mean_ns / (loading.fetches * loading.fetch_ns), 1.0)  # of a fetch, by a busy device
    low, mid = (ScaleHost(run.host.fetch, 1.0 - end * gone * exposed) for end in (_LOW, 1.0))
    return Change((low,), (mid,), every)


def _unmeasured(run: Run, warming: Warming | None) -> str:
    """Reading is not waiting for it: what of a wait is storage's shows only where the reading stops."""
    most = time_of(run.replay.measured_ns - run.replay.step_ns((ScaleHost(run.host.fetch),)))
    if warming is None:
        timed = counted(len(run.facts.timed_steps_s) if run.facts is not None else 0, "timed step")
        return (
            f"what a warm cache saves does not show in {timed}: from nothing to {most} a step; "
            f"time more with --timed {_TIME_MORE}"
        )
    return (
        f"steps went from {_steps(warming)} between the first and the last third, so how much of the wait is the storage's is "
        f"unknown: from nothing to {most} a step; time a part of the data in /dev/shm to know"
    )


def _fix(told: str, *, fits: bool) -> str:
    if fits:
        return (
            "find DATA -type f -exec cat {} + > /dev/null  # read the data set once before training, or keep it in memory "
            f"or on local NVMe: {told} came from storage"
        )
    return (
        "cp -r DATA /local_nvme/  # or store less: files read in order, smaller formats, images at the size in use: "
        f"{told} came from storage"
    )


def _detail(run: Run, measured: Warming | None) -> str:
    if measured is None:
        return "storage may be the limit: more workers then deliver no more than it does"
    host = run.facts.host if run.facts is not None else None
    room = host.memory_available_bytes if host is not None else None
    holds = f", and {size_of(room)} of memory can hold data" if room is not None else ""
    return f"the saving is that of steps that still read from storage{holds}"


def _steps(warming: Warming) -> str:
    return f"{time_of(warming.cold_s * NS_PER_S)} to {time_of(warming.warm_s * NS_PER_S)}"


def _evidence(loading: Loading, rate: float, warming: Warming | None) -> tuple[Evidence, ...]:
    found = [
        shown("read from storage", rate, "bytes/s"),
        shown("waiting for data", seconds(loading.waiting.stated_ns), "s"),
    ]
    if warming is not None:
        found.append(shown("first third of the timed steps", warming.cold_s, "s"))
        found.append(shown("last third of the timed steps", warming.warm_s, "s"))
    return tuple(found)
